"""Messages against the models of Redox's Data Models: structure is checked, values are never told, nothing is rewritten."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.datamodels import EVENTS, check, model_of
from tests.support.samples import TEST_DATA

from .flows import said_by

SAMPLES = TEST_DATA / "redox-data-models"
WITHOUT_A_CLASS = {
    "claim_payment",
    "claim_submission",
    "enrichment_naturallanguageprocessingquery",
    "enrichment_naturallanguageprocessingqueryresponse",
}
"""Redox took these events out of its API, and `redox` 2 out of its models."""

needs_models = pytest.mark.skipif(find_spec("redox") is None, reason="the extra [datamodels] is not installed")
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="no sample messages in TEST_DATA")


def message(**patient: Any) -> dict[str, Any]:
    meta = {"DataModel": "PatientAdmin", "EventType": "NewPatient", "Destinations": [{"ID": "d"}]}
    return {"Meta": meta, "Patient": {"Identifiers": [{"ID": "1", "IDType": "MR"}], **patient}}


def complaint(given: Any, mode: str = "strict") -> str:
    with pytest.raises(RedoxConfigError) as raised:
        check(given, mode)
    assert "Canary" not in said_by(raised.value)
    return str(raised.value)


@needs_models
@needs_samples
@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json")))
def test_every_sample_of_redox_passes_as_lenient(name: str) -> None:
    """A message in Redox's own shape is right, and has a class, except for events that are gone."""
    sample = json.loads((SAMPLES / f"{name}.json").read_text())
    before = copy.deepcopy(sample)
    check(sample, "lenient")
    assert sample == before
    assert (model_of(sample) is None) == (name in WITHOUT_A_CLASS)


@needs_models
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_a_good_message_passes(mode: str) -> None:
    """What has all that its model asks for, and nothing else, is right in both modes."""
    check(message(Demographics={"LastName": "Green", "DOB": None}), mode)


@needs_models
@pytest.mark.parametrize("mode", ["strict", "lenient"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"Meta": message()["Meta"]}, "Patient is missing"),
        ({"Meta": message()["Meta"], "Patient": {}}, "Patient.Identifiers is missing"),
        (
            message(Identifiers=[{"ID": "Canary", "IDType": "MR"}, {"ID": "Canary"}]),
            "Patient.Identifiers[1].IDType is missing",
        ),
        (message(Identifiers="Canary"), "Patient.Identifiers must be a list"),
        (message(Demographics="Canary"), "Patient.Demographics must be an object"),
        (message(Demographics={"LastName": ["Canary"]}), "Patient.Demographics.LastName must be text"),
        (message(Demographics={"IsDeceased": "Canary"}), "Patient.Demographics.IsDeceased must be true or false"),
    ],
)
def test_what_cannot_be_right_is_named_by_its_path(mode: str, given: Any, words: str) -> None:
    """Missing fields and wrong kinds are refused in both modes, by path and without a value."""
    assert words in complaint(given, mode)


@needs_models
def test_an_unknown_field_is_wrong_in_strict_only() -> None:
    """A typing error is found by strict; lenient lets newer fields pass."""
    given = message(Demographics={"Lastname": "Canary"})
    assert "Patient.Demographics.Lastname is not known there" in complaint(given)
    check(given, "lenient")


@needs_models
def test_a_key_that_is_no_field_name_is_not_shown() -> None:
    """It may be a value."""
    assert "Patient.? is not known there" in complaint(message(**{"Canary Canary": 1}))


@needs_models
def test_problems_are_counted_above_twenty() -> None:
    """An error is no flood."""
    assert complaint(message(Identifiers=[{}] * 30)).endswith("; and 40 more")


@needs_models
def test_what_would_be_sent_is_checked() -> None:
    """A number where Redox has text, exact or not, passes as it always did; a value that JSON cannot carry does not."""
    check(message(Demographics={"SSN": Decimal("1.10")}), "strict")
    assert "cannot be sent" in complaint(message(Demographics={"SSN": object()}))


@needs_models
def test_an_event_without_a_model() -> None:
    """Lenient lets it pass, strict says that it cannot be checked."""
    given = {"Meta": {"DataModel": "Claim", "EventType": "Payment"}}
    check(given, "lenient")
    assert "there is no model" in complaint(given)


@pytest.mark.parametrize("mode", ["Strict", "", "on", None, True])
def test_a_mode_is_one_of_three(mode: Any) -> None:
    """Another word is refused, not taken for off."""
    assert "validate: must be one of strict, lenient, off" in complaint(message(), mode)


@pytest.mark.parametrize(
    ("model", "event", "found"),
    [
        ("PatientAdmin", "NewPatient", ("patientadmin", "NewPatient")),
        ("Clinical Summary", "Patient Push", ("clinicalsummary", "PatientPush")),
        ("SSO", "Sign-on", ("sso", "SignOn")),
        ("patientadmin", "newpatient", ("patientadmin", "NewPatient")),
        ("PatientAdmin", "No", None),
        ("Nothing", "New", None),
        ("factory", "New", None),
        (7, None, None),
    ],
)
def test_a_model_is_found_by_its_names(model: Any, event: Any, found: Any) -> None:
    """Spaces, hyphens and upper case do not matter."""
    assert model_of({"Meta": {"DataModel": model, "EventType": event}}) == found


@pytest.mark.parametrize("given", [{}, {"Meta": None}, {"Meta": "x"}])
def test_without_meta_there_is_no_model(given: Any) -> None:
    """That is somebody else's complaint."""
    assert model_of(given) is None


@needs_models
def test_the_table_is_the_library() -> None:
    """Every class of the installed library is in the table, and no other."""
    spec = find_spec("redox")
    assert spec is not None
    assert spec.origin is not None
    folders = {path.parent for path in Path(spec.origin).parent.glob("*/__init__.py") if path.parent.name != "generic"}
    listed = {one.name: set(re.findall(r"import (\w+)", (one / "__init__.py").read_text())) for one in folders}
    assert {name: set(events.split()) for name, events in EVENTS.items()} == listed


def run(code: str) -> set[str]:
    code = f"import sys\nfrom airflow_provider_redox.protocol.datamodels import check\n{code}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@needs_models
def test_one_data_model_is_loaded() -> None:
    """A check loads the data model that it needs, never all of them; off loads none."""
    assert not [name for name in run(f"check({message()!r}, 'off')") if name.split(".")[0] in ("redox", "pydantic")]
    loaded = {name for name in run(f"check({message()!r}, 'strict')") if name.startswith("redox.")}
    assert {name.split(".")[1] for name in loaded} == {"patientadmin", "abstract_base"}


def test_without_the_extra_it_says_what_to_install() -> None:
    """A worker without the models refuses to guess."""
    code = f"sys.modules['redox'] = None\ntry: check({message()!r}, 'lenient')\nexcept Exception as e: print(e)"
    assert '"airflow-provider-redox[datamodels]"' in run(code)
