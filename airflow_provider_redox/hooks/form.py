"""The connection form for Airflow 2.11 to 3.1, translated from the provider's metadata."""

from __future__ import annotations

from typing import Any

from airflow_provider_redox.get_provider_info import get_provider_info


def _connection_type() -> dict[str, Any]:
    described: dict[str, Any] = get_provider_info()["connection-types"][0]
    return described


def widgets() -> dict[str, Any]:
    """Give one WTForms field for each extra. These versions know text, numbers, switches and passwords only."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import IntegerField, StringField
    from wtforms.validators import Optional

    kinds = {"integer": IntegerField}
    return {
        name: kinds.get(described["schema"]["type"][0], StringField)(
            described["label"],
            widget=BS3TextFieldWidget(),
            description=described["description"],
            validators=[Optional()],
        )
        for name, described in _connection_type()["conn-fields"].items()
    }


def legacy_behaviour() -> dict[str, Any]:
    """Give the form's labels with the names that these versions use."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }
