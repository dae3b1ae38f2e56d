"""Chat templates are programs by strangers: none reaches Python, and none runs long or grows large."""

import time
from datetime import date

import pytest

from counterpoint.data.text.sandbox import GENERATED, GENERATED_END, LONGEST_TEMPLATE, check_template, render
from counterpoint.errors import DataError

DAY = date(2024, 7, 26)
GIVEN = {"messages": [{"role": "user", "content": " hi "}], "tools": None, "bos_token": "<s>"}


def doubling(step: str, first: str = "'ab'") -> str:
    """A template that applies a step sixty times to its own result."""
    return "{% set ns = namespace(x=" + first + ") %}{% for i in range(60) %}" + step + "{% endfor %}{{ ns.x == ns.x }}"


HOSTILE = {
    "loops in loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "a long range": "{% for i in range(10**9) %}{% endfor %}",
    "text times a number": "{{ 'a' * 10**9 }}",
    "a power of powers": "{{ 10**(10**10) }}",
    "a large power": "{{ 9**4000 }}",
    "a width": "{{ '%1000000000d' % 1 }}",
    "a width of a format": "{{ '{:>1000000000}'.format(1) }}",
    "a width as argument": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "a width as star": "{{ '%*d' % (1000000000, 1) }}",
    "center": "{{ 'a'.center(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**8) }}",
    "expandtabs": "{{ ('\t' * 100000).expandtabs(100000) }}",
    "translate": "{{ ('a' * 100000).translate({97: 'b' * 100000}) }}",
    "indent": "{{ ('a\n' * 10000) | indent('x' * 100000) }}",
    "tojson": "{{ range(100000) | list | tojson(indent=100000) }}",
    "doubling by ~": doubling("{% set ns.x = ns.x ~ ns.x %}"),
    "doubling by +": doubling("{% set ns.x = ns.x + ns.x %}"),
    "doubling by writing": doubling("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
    "doubling by lists": doubling("{% set ns.x = [ns.x, ns.x] %}"),
    "doubling by mappings": doubling("{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
    "doubling by dict": doubling("{% set ns.x = dict(a=ns.x, b=ns.x) %}"),
    "doubling by replace": doubling("{% set ns.x = ns.x.replace('a', ns.x) %}"),
    "doubling by a filter": doubling("{% set ns.x = ns.x | replace('a', ns.x) %}"),
    "doubling by join": doubling("{% set ns.x = ns.x.join(ns.x) %}"),
    "doubling by join of numbers": doubling("{% set ns.x = range(1000) | join(ns.x) %}"),
    "doubling by a format": doubling("{% set ns.x = '{0}{0}'.format(ns.x) %}"),
    "macros that call themselves": "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "macros to a depth": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "blocks": "{% block a %}{{ self.a() }}{% endblock %}",
    "much text": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "much text of its own": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "classes by a format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "classes by a mapping": "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "globals": "{{ raise_exception.__globals__.x }}",
    "a namespace's internals": "{{ namespace(__class__=1) }}",
    "changing what it is given": "{{ messages.append(1) }}",
    "files": "{% include '/etc/passwd' %}",
    "modules": "{% import 'os' as os %}{{ os.system('true') }}",
    "a draw": "{{ [1, 2] | random }}",
    "a long date": "{{ strftime_now('%9999999d') }}",
    "what is not there": "{{ messages.x.y.z }}",
    "division by zero": "{{ 1 / 0 }}",
    "half a tag": "{% if %}",
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "length": "x" * (LONGEST_TEMPLATE + 1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_template_is_one_sentence(case: str) -> None:
    begin = time.process_time()
    with pytest.raises(DataError, match=r"^the chat template [^\n]*\.$"):
        render(HOSTILE[case], DAY, GIVEN)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "source",
    ["{{ ''|attr('__class__') }}", "{{ messages.__class__ }}", "{{ self._TemplateReference__context }}",
     "{{ strftime_now.__globals__ }}", "{{ dict.__class__ }}"],
)  # fmt: skip
def test_internals_are_undefined(source: str) -> None:
    assert render(source, DAY, GIVEN) == ""


def test_a_template_reads_what_transformers_gives_it() -> None:
    source = (
        "{% for m in messages %}{{ bos_token ~ m.role + '|' + m['content'] | trim }}{% break %}{% endfor %}\n"
        "{% generation %}x{% endgeneration %}{{ {'b': '<é>', 'a': 1} | tojson }}{{ [1] | tojson(indent=2) }}"
        "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 2 %}{{ ns.a }}{{ documents }}{{ strftime_now('%d %b %Y') }}"
    )
    written = f'<s>user|hi{GENERATED}x{GENERATED_END}{{"b": "<é>", "a": 1}}[\n  1\n]326 Jul 2024'
    assert render(source, DAY, GIVEN) == written


def test_a_template_says_why_it_refuses() -> None:
    with pytest.raises(DataError, match=r"refuses the conversation \(System role not supported\)\.$"):
        render("{{ raise_exception('System role not supported') }}", DAY, GIVEN)
    with pytest.raises(DataError, match="is no template of jinja2"):
        check_template("{% for %}", DAY)


def test_a_long_conversation_has_room() -> None:
    messages = [{"role": "user", "content": "word " * 4000}] * 500
    source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>' }}{% endfor %}"
    assert len(render(source, DAY, {"messages": messages})) > 500 * 4000 * 5
