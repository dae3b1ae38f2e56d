"""A plan as plain data, and back: dicts with string keys, lists, strings, numbers and booleans."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from counterpoint.errors import InputError
from counterpoint.plan.plan import Plan


def form_of(plan: Plan) -> dict[str, Any]:
    """Everything that a plan holds as JSON data; what follows from it is left out."""
    form: dict[str, Any] = _adapter().dump_python(plan, mode="json")
    return form


def plan_of_form(form: object) -> Plan:
    """The plan that has this form, equal to the one that was written; raises InputError for any other data."""
    try:
        return _adapter().validate_python(form)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"a plan's form: got {first['input']!r} at {where}, expected what `counterpoint plan --json` writes there "
            f"({first['msg']}); write it again"
        ) from None


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)
