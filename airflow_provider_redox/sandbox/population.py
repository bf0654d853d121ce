"""Invented patients: the same seed makes the same ones, on any day.

Names and addresses come from Faker, everything else from a seeded generator; nobody in here exists. Only
``meta.lastUpdated`` depends on the day: it is spread over the thirty days before the start, so that a search for last
night's changes finds some.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from faker import Faker

from .store import instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import Resource

MRN_SYSTEM = "urn:redox:general:MR"
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
TERMS = "http://terminology.hl7.org/CodeSystem"
DAYS = 30
SECONDS = DAYS * 86_400
DIABETES = ("44054006", "Diabetes mellitus type 2")
PROBLEMS = (
    DIABETES,
    ("38341003", "Hypertensive disorder"),
    ("195967001", "Asthma"),
    ("55822004", "Hyperlipidemia"),
    ("162864005", "Body mass index 30+ - obesity"),
)
VITALS = (
    ("8867-4", "Heart rate", "/min", 58, 104),
    ("8310-5", "Body temperature", "Cel", 36, 38),
    ("29463-7", "Body weight", "kg", 48, 118),
    ("8302-2", "Body height", "cm", 148, 199),
    ("9279-1", "Respiratory rate", "/min", 11, 21),
)
HBA1C = ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%")


@dataclass(frozen=True, slots=True)
class Person:
    """What makes a patient that person."""

    given: str
    family: str
    birth_date: str
    gender: str
    resource_id: str = ""


# One documented patient, two records of one person (a search finds both), and a name that has to be encoded well.
KEVA = Person("Keva", "Green", "1995-08-26", "female", "81c2f5eb-f99f-40c4-b504-59483e6148d7")
TWICE = Person("Sam", "Rivers", "1980-02-29", "male")
ACCENTED = Person("Zoë", "O'Brien-Núñez", "1971-12-31", "female")
KNOWN = (KEVA, TWICE, TWICE, ACCENTED)


def generate(count: int, *, seed: int, today: float) -> list[Resource]:
    """Invent ``count`` patients with their records; ``today`` is midnight of the start, in seconds since 1970."""
    maker = _Maker(Random(seed), Random(seed + 1), Faker("en_US"), today)  # noqa: S311  # data, not secrets
    maker.faker.seed_instance(seed)
    people = [KNOWN[index] if index < len(KNOWN) else maker.person() for index in range(count)]
    return [resource for index, person in enumerate(people) for resource in maker.records(index, person)]


@dataclass(frozen=True, slots=True)
class _Maker:
    rng: Random
    clock: Random
    faker: Any
    today: float

    def person(self) -> Person:
        gender = self.rng.choice(["female", "male"])
        given = self.faker.first_name_female() if gender == "female" else self.faker.first_name_male()
        born = datetime(1935, 1, 1, tzinfo=UTC) + timedelta(days=self.rng.randrange(32_000))
        return Person(given, self.faker.last_name(), born.date().isoformat(), gender)

    def records(self, index: int, person: Person) -> Iterator[Resource]:
        """Yield a patient and everything about them."""
        patient = self.patient(index, person)
        yield patient
        subject = {"reference": f"Patient/{patient['id']}", "display": f"{person.given} {person.family}"}
        problems = self.problems(person)
        visits = [self.encounter(subject) for _ in range(self.rng.randint(1, 3))]
        yield from visits
        yield from (self.condition(problem, subject, visits[0]) for problem in problems)
        for visit in visits:
            yield from self.vital_signs(subject, visit)
            if DIABETES in problems or self.rng.random() < 0.2:  # a fifth of the others
                yield self.hba1c(subject, visit, diabetic=DIABETES in problems)
        if index % 10 == 0:
            yield from self.document(subject, visits[0])

    def resource(self, kind: str, resource_id: str = "", **elements: Any) -> Resource:
        updated = self.today - 1 - self.clock.randrange(SECONDS)
        meta = {"versionId": "1", "lastUpdated": instant(updated)}
        return {"resourceType": kind, "id": resource_id or self.uuid(), "meta": meta} | elements

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def patient(self, index: int, person: Person) -> Resource:
        faker = self.faker
        kind = {"coding": [{"system": f"{TERMS}/v2-0203", "code": "MR"}]}
        address = {"use": "home", "line": [faker.street_address()], "city": faker.city(), "country": "US"}
        address |= {"state": faker.state_abbr(include_territories=False), "postalCode": faker.postcode()}
        number = f"+1{self.rng.randint(200, 989)}555{self.rng.randint(100, 199):04d}"
        patient = self.resource(
            "Patient",
            person.resource_id,
            identifier=[{"use": "usual", "type": kind, "system": MRN_SYSTEM, "value": f"{index + 1:010d}"}],
            active=True,
            name=[{"use": "official", "family": person.family, "given": [person.given]}],
            telecom=[{"system": "phone", "use": "home", "value": number}],
            gender=person.gender,
            birthDate=person.birth_date,
            address=[address],
        )
        if person is KEVA:
            patient["meta"]["lastUpdated"] = instant(self.today - 6 * 3600)
        return patient

    def problems(self, person: Person) -> list[tuple[str, str]]:
        chosen = [problem for problem in PROBLEMS if self.rng.random() < 0.25]  # a quarter has each
        return [DIABETES] if person is KEVA else chosen

    def encounter(self, subject: dict[str, str]) -> Resource:
        start = datetime(2023, 1, 2, 8, tzinfo=UTC) + timedelta(minutes=self.rng.randrange(1_500_000))
        end = start + timedelta(minutes=self.rng.randint(15, 240))
        return self.resource(
            "Encounter",
            status="finished",
            type=[{"coding": [{"system": SNOMED, "code": "308335008", "display": "Patient encounter procedure"}]}],
            subject=subject,
            period={"start": start.isoformat(), "end": end.isoformat()},
        ) | {"class": {"system": f"{TERMS}/v3-ActCode", "code": "AMB", "display": "ambulatory"}}

    def condition(self, problem: tuple[str, str], subject: dict[str, str], visit: Resource) -> Resource:
        return self.resource(
            "Condition",
            clinicalStatus={"coding": [{"system": f"{TERMS}/condition-clinical", "code": "active"}]},
            verificationStatus={"coding": [{"system": f"{TERMS}/condition-ver-status", "code": "confirmed"}]},
            category=[{"coding": [{"system": f"{TERMS}/condition-category", "code": "problem-list-item"}]}],
            code={"coding": [{"system": SNOMED, "code": problem[0], "display": problem[1]}], "text": problem[1]},
            subject=subject,
            encounter={"reference": f"Encounter/{visit['id']}"},
            onsetDateTime=visit["period"]["start"][:10],
            recordedDate=visit["period"]["start"],
        )

    def vital_signs(self, subject: dict[str, str], visit: Resource) -> Iterator[Resource]:
        for code, display, unit, low, high in VITALS:
            value = {"valueQuantity": _quantity(round(self.rng.uniform(low, high), 1), unit)}
            yield self.observation("vital-signs", (code, display), subject, visit, value)
        pressures = (("8480-6", "Systolic blood pressure", 100, 165), ("8462-4", "Diastolic blood pressure", 60, 99))
        parts = [
            {"code": _loinc(code, display), "valueQuantity": _quantity(self.rng.randint(low, high), "mm[Hg]")}
            for code, display, low, high in pressures
        ]
        yield self.observation("vital-signs", ("85354-9", "Blood pressure panel"), subject, visit, {"component": parts})

    def hba1c(self, subject: dict[str, str], visit: Resource, *, diabetic: bool) -> Resource:
        low, high = (6.5, 10.5) if diabetic else (4.6, 5.9)
        value = {"valueQuantity": _quantity(round(self.rng.uniform(low, high), 1), HBA1C[2])}
        return self.observation("laboratory", HBA1C[:2], subject, visit, value)

    def observation(
        self, category: str, code: tuple[str, str], subject: dict[str, str], visit: Resource, value: dict[str, Any]
    ) -> Resource:
        return self.resource(
            "Observation",
            status="final",
            category=[{"coding": [{"system": f"{TERMS}/observation-category", "code": category}]}],
            code=_loinc(*code),
            subject=subject,
            encounter={"reference": f"Encounter/{visit['id']}"},
            effectiveDateTime=visit["period"]["start"],
            **value,
        )

    def document(self, subject: dict[str, str], visit: Resource) -> Iterator[Resource]:
        text = f"Visit summary of {subject['display']}: no complaints.\n".encode()
        data = base64.b64encode(text).decode()
        binary = self.resource("Binary", contentType="text/plain", data=data)
        yield binary
        attachment = {"contentType": "text/plain", "url": f"Binary/{binary['id']}", "size": len(text)}
        yield self.resource(
            "DocumentReference",
            status="current",
            type=_loinc("34133-9", "Summarization of episode note"),
            subject=subject,
            date=visit["period"]["end"],
            content=[{"attachment": attachment}],
            context={"encounter": [{"reference": f"Encounter/{visit['id']}"}]},
        )


def _loinc(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}
