"""The connection form for Airflow 2.11 to 3.1, translated from the provider's metadata."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_redox.get_provider_info import get_provider_info


class JsonText:
    """A text widget that shows an object as JSON. By itself it would show, and the next save store, Python's repr."""

    def __init__(self, text_widget: Any) -> None:
        self.text_widget = text_widget

    def __call__(self, field: Any, **attributes: Any) -> Any:
        """Give the HTML of a field."""
        if isinstance(field.data, dict):
            attributes["value"] = json.dumps(field.data)
        return self.text_widget(field, **attributes)


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
            widget=JsonText(BS3TextFieldWidget()),
            description=described["description"] + _what_to_type(described["schema"]),
            validators=[Optional()],
        )
        for name, described in _connection_type()["conn-fields"].items()
    }


def _what_to_type(schema: dict[str, Any]) -> str:
    """Say what later versions show by a drop-down or a JSON editor."""
    if "enum" in schema:
        return f" {', '.join(schema['enum'][:-1])} or {schema['enum'][-1]}."
    return " A JSON object." if "object" in schema["type"] else ""


def legacy_behaviour() -> dict[str, Any]:
    """Give the form's labels with the names that these versions use."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }
