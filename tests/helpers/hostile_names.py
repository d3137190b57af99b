"""Names of classes and files that a stranger may have chosen, one per trick, and one per script."""

TRICKS = [
    "=cmd|' calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "a;=1+1", "\ufeff=1+1", "＝1+1",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "two\nlines", "back\b\b\bspace", "\u202egpj.exe", "\u2066iso",
    "zero\u200bwidth", "<script>alert(1)<!--", "\"><img src=x onerror=alert(1)>", "{{ 7*7 }}", "{% raw %}", "$x_1^2$",
    "$\\frac{", "%s%n {0}", "| a | b |", "[link](javascript:alert(1))", "'); DROP--", "-rf", "x" * 200,
]  # fmt: skip
SCRIPTS = [
    "بومة", "ינשוף", "フクロウ", "부엉이", "猫头鹰", "сова", "γλαύκα", "उल्लू", "นกฮูก", "🦉",
    "👩\u200d👩\u200d👧", "forêt", "Käuzchen",
]  # fmt: skip

#: What must not reach a terminal, a page or a figure as it is.
CONTROLS = "".join(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x200B, 0x202E, 0x2066, 0xFEFF]))
