"""The connection form of Airflow 3 and of Airflow 2, in the words of somebody who uses it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Response

CLIPBOARD = ["clipboard-read", "clipboard-write"]


def paste(page: Page, field: Locator, text: str) -> None:
    """Paste over what the field holds, by the clipboard, because a browser changes what it pastes."""
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    field.click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.press("ControlOrMeta+V")


@dataclass(frozen=True)
class Tested:
    """What the Test button led to: what is on the page, and what the API answered."""

    shown: str
    colour: str
    status: int
    answer: dict[str, Any]


class Connections:
    """Airflow 3's list of connections."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(f"{url}/connections")

    def row(self, connection_id: str) -> Locator:
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("cell", name=connection_id, exact=True))

    def add(self, connection_id: str) -> Form:
        self.page.get_by_role("button", name="Add Connection").click()
        form = Form(self.page)
        form.dialog.get_by_label("Connection ID").fill(connection_id)
        form.dialog.get_by_label("Connection Type").fill("Redox")
        self.page.get_by_role("option", name="Redox", exact=True).click()
        return form

    def edit(self, connection_id: str) -> Form:
        self.row(connection_id).get_by_role("button", name="Edit Connection").click()
        return Form(self.page)

    def test(self, connection_id: str) -> Tested:
        """Press the button; the outcome is a toast, which goes away by itself, and the colour of the button's icon."""
        with self.page.expect_response("**/connections/test") as answered:
            self.row(connection_id).get_by_role("button", name="Test Connection").click()
        answer: Response = answered.value
        toast = self.page.locator("[data-scope=toast][data-part=root]").filter(has_text=re.compile("^Test Connection "))
        toast.wait_for()
        icon = self.row(connection_id).get_by_role("button", name="Test Connection").locator("svg")
        colour = icon.evaluate("icon => getComputedStyle(icon).color")
        return Tested(toast.inner_text(), colour, answer.status, answer.json())


class Form:
    """Airflow 3's dialog. Standard fields have labels of their own; an extra field is found by the group it stands in."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.dialog = page.get_by_role("dialog")
        self.dialog.wait_for()

    def standard(self, label: str) -> Locator:
        return self.dialog.get_by_label(label, exact=True)

    def paste_key(self, key: str) -> None:
        paste(self.page, self.standard("Private key"), key)

    def open_extra(self) -> None:
        self.dialog.get_by_role("button", name="Extra Fields", exact=True).click()
        self.extra("Client ID").wait_for()

    def from_extra_to(self, label: str) -> dict[str, float]:
        """Scroll, and give where the extra fields are on the page, down to one of them."""
        first, last = self.dialog.get_by_role("button", name="Extra Fields", exact=True), self.extra(label)
        first.evaluate("header => header.scrollIntoView({block: 'start'})")
        top, bottom = first.bounding_box(), last.bounding_box()
        margin = 12
        return {
            "x": top["x"] - margin,
            "y": top["y"],
            "width": top["width"] + 2 * margin,
            "height": bottom["y"] + bottom["height"] + margin - top["y"],
        }

    def extra(self, label: str) -> Locator:
        return self.dialog.get_by_role("group").filter(has=self.page.get_by_text(label, exact=True)).last

    def write(self, label: str, text: str) -> None:
        self.extra(label).locator("input").fill(text)

    def written(self, label: str) -> str:
        return self.extra(label).locator("input").input_value()

    def choices(self, label: str) -> list[str]:
        """Open a drop-down and give what it offers."""
        self.extra(label).get_by_role("combobox").click()
        return self.page.get_by_role("option").all_inner_texts()

    def choose(self, label: str, choice: str) -> None:
        self.extra(label).get_by_role("combobox").click()
        self.page.get_by_role("option", name=choice, exact=True).click()

    def clear_choice(self, label: str) -> None:
        self.extra(label).locator("[aria-label='Clear selected options']").click()

    def write_json(self, label: str, value: Any) -> None:
        paste(self.page, self.extra(label).locator(".monaco-editor").first, json.dumps(value))

    def json(self, label: str) -> Any:
        """Give what a JSON editor shows. It draws the lines that are in sight only: for small objects."""
        lines = self.extra(label).locator(".view-line")
        lines.first.wait_for()
        drawn = lines.evaluate_all("lines => lines.map(line => [parseInt(line.style.top), line.textContent])")
        return json.loads("".join(text for _, text in sorted(drawn)).replace("\xa0", " "))

    def save(self) -> None:
        self.dialog.get_by_role("button", name="Save").click()
        self.dialog.wait_for(state="hidden")


class OldForm:
    """Airflow 2's page for one connection. `/connection/add`, or `/connection/edit/1`."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(url)

    def choose_type(self) -> None:
        self.page.locator("#conn_type + .select2-container").click()
        self.page.locator(".select2-results__option", has_text=re.compile("^Redox$")).click()

    def field(self, name: str) -> Locator:
        return self.page.locator(f"#{name}")

    def extra(self, name: str) -> Locator:
        return self.page.locator(f"#extra__redox__{name}")

    def hint(self, name: str) -> str:
        """Give the words below an extra field."""
        return self.extra(name).locator("xpath=..").inner_text()

    def label(self, name: str) -> str:
        return self.page.locator(f"label[for='{name}']").inner_text()

    def paste_key(self, key: str) -> None:
        paste(self.page, self.field("password"), key)

    def test(self) -> Tested:
        with self.page.expect_response("**/connections/test") as answered:
            self.page.locator("#test-connection").click()
        answer: Response = answered.value
        message = answer.json()["message"]
        alert = self.page.locator(".alert").filter(has_text=message)
        alert.wait_for()
        return Tested(alert.inner_text(), alert.get_attribute("class") or "", answer.status, answer.json())

    def save(self) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Save").click()
