"""Hostile values for any text field of a config, a taxonomy, a guard or a record."""

from __future__ import annotations

VALUES = [
    "x\n```\n# INJECTED <script>alert(1)</script>\n![i](http://example.invalid/x.png)\n---\nlicense: mit\n---\n",
    "A|B\n\n<b>x</b>",
    '=HYPERLINK("http://example.invalid")',
    "fine\nRefund: 3 of 3",
    "\u202egnp.exe",
    "---\n\n1. http://example.invalid www.example.invalid me@example.invalid $$x$$",
    "&lt;img src=x onerror=alert(1)&gt; {{ 7 * 7 }} {% raw %}",
    '"><img src=x onerror=alert(1)><!-- ]]></style></svg>',
    "``````\n</pre><h1>out</h1>\n``````",
    "}, url = {http://example.invalid}, note = {\\input{x}",
    "bell \x07 and escape \x1b[2J",
    "[a]: http://example.invalid\n\n    indented\n> quoted",
]


def value(number: int) -> str:
    """A hostile value, followed by the number: all are different, as names must be."""
    return f"{VALUES[number % len(VALUES)]} {number}"
