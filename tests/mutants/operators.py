"""Small wrong edits, made by rule: each operator looks at a line of code and says what could stand there.

An operator is a function (source, line number) -> new texts, each for this line or for this and the next. What is
there to be noticed by nobody is left alone: assertions, logging, and the pause in a loop that waits.
"""
import re

STATEMENT = re.compile(r"^\t+(?:[\w.>\[\]-]+(?: [|&+-]?= |\()|\*).*;$")
DECLARATION = re.compile(r"^\t+(?:const |static |struct |enum |unsigned |bool |u\d+ |hpa_t |gpa_t )")
UNTOUCHED = re.compile(r"\b(check|panic|static_assert|cpu_relax|log_\w+|return)\b")
LEVEL = re.compile(r"(?:\w+(?:->|\.))*(?<![\w.])(?:\w+(?:->|\.))*\blevel\b(?!\s*(?:=[^=]|\+\+|--|\())")
NUMBER = re.compile(r"(?<![\w.])(0x[0-9a-f]+|[1-9]\d*)(u?l{0,2})\b")


def replaced(line, pattern, text):
    """One edit for each place that the pattern fits."""
    return [line[:m.start()] + m.expand(text) + line[m.end():] for m in re.finditer(pattern, line)]


def is_statement(line):
    return bool(STATEMENT.match(line)) and not DECLARATION.match(line) and not UNTOUCHED.search(line)


def indent_of(line):
    return line[:len(line) - len(line.lstrip())]


def negate(source, at):
    line = source.lines[at]
    found = re.match(r"^(\t+.*\b(?:if|while) \()(.*)(\)(?: \{|;))$", line)
    if not found or found[2].count("(") != found[2].count(")"):
        return []
    return [[f"{found[1]}!({found[2]}){found[3]}"]]


def drop(source, at):
    line = source.lines[at]
    return [[indent_of(line) + ";"]] if is_statement(line) else []


def swap(source, at):
    if at + 1 >= len(source.lines) or source.owner[at + 1] != source.owner[at]:
        return []
    one, two = source.lines[at], source.lines[at + 1]
    if not is_statement(one) or not is_statement(two) or indent_of(one) != indent_of(two):
        return []
    if "(" not in one + two:
        return []  # two plain assignments, mostly of different things
    return [[two, one]]


def leave_early(source, at):
    line, owner = source.lines[at], source.owner[at]
    if not is_statement(line) or len(indent_of(line)) != 1:
        return []
    head = re.search(rf"^(?:static )?(?:inline )?(void|bool|enum status) {owner}\(", source.text, re.MULTILINE)
    values = {"void": [""], "bool": [" true", " false"], "enum status": [" OK"]}
    return [[f"\treturn{value}; {line.strip()}"] for value in values[head[1]]] if head else []


def edits(*rules):
    """An operator out of (pattern, replacement)."""
    def operator(source, at):
        return [[new] for pattern, text in rules for new in replaced(source.lines[at], pattern, text)]
    return operator


def level_up(source, at):
    line = source.lines[at]
    if re.match(r"^\t+(?:unsigned|u\d+|const unsigned) level;", line):
        return []
    return [[new] for new in replaced(line, LEVEL, r"(\g<0> + 1)")]


def constant(source, at):
    """A mask of one bit more, a number of one more."""
    line = source.lines[at]
    found = replaced(line, r"\bBITS\((\d+), (\d+)\)", r"BITS(\1, \2 + 1)")
    found += replaced(line, r"\bBIT\((\w+)\)", r"BIT(\1 + 1)")
    for number in NUMBER.finditer(line):
        if not re.search(r"[+-] $|BITS?\([\d, ]*$|%$", line[:number.start()]):
            found.append(f"{line[:number.start()]}({number[0]} + 1){line[number.end():]}")
    return [[new] for new in found]


OPERATORS = {
    "negate": negate,
    "drop": drop,
    "swap": swap,
    "leave early": leave_early,
    "compare": edits((r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "),
                     (r" != ", " == ")),
    "one less": edits((r" \+ 1\b", " + 0"), (r" - 1\b", " - 0")),
    "level": level_up,
    "and, or": edits((r" & ", " | "), (r" \| ", " & "), (r" && ", " || "), (r" \|\| ", " && "), (r" \|= ", " &= "),
                     (r" &= ", " |= "), (r" & ~", " & ")),
    "true, false": edits((r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"(?<=[( ])!(?=[\w(])", "")),
    "count": edits((r"\+\+", "--"), (r"--", "++"), (r" \+= ", " -= "), (r" -= ", " += "), (r"_add\(", "_sub("),
                   (r"_sub\(", "_add(")),
    "add": edits((r" \+ (?!1\b)", " - "), (r" - (?!1\b)", " + "), (r" << ", " >> "), (r" >> ", " << ")),
    "constant": constant,
    "no batch": edits((r", &?batch\)", ", NULL)")),
    "status": edits((r"\bEXISTS\b", "AGAIN"), (r"\bAGAIN\b", "EXISTS"), (r"\bNOMEM\b", "OK"), (r"\bINVALID\b", "OK"),
                    (r"\bDENIED\b", "OK"), (r"\bNOENT\b", "OK")),
    "jump": edits((r"\bcontinue;", "break;"), (r"\bbreak;", ";")),
}
OF_DATA = ("constant", "and, or", "true, false")


def edits_of(source, at):
    """All of a line, as (operator, new lines); nothing where the edit would touch words only."""
    owner, code = source.owner[at], source.code[at]
    if owner is None or not code.strip() or re.search(r"\b(check|panic|static_assert|log_\w+)\(", code):
        return []
    if code.strip() != source.lines[at].strip() or code.startswith("#define") and not NUMBER.search(code):
        return []
    names = OF_DATA if owner == "=" else OPERATORS
    return [(name, new) for name in names for new in OPERATORS[name](source, at)]
