"""Converts docstrings, plain text with Google sections, to reStructuredText."""

import re

_SECTION = re.compile(r"\w+:$")
_MARKUP = re.compile(r"([\\|*]|(?<=\w)_(?!\w))")


def as_rst(lines: list[str]) -> list[str]:
    """Escapes markup characters before napoleon parses the sections.

    Args:
      lines: lines of a docstring, without indentation.

    Returns:
      The lines with code in double backticks and indented paragraphs as literal blocks.
    """
    result: list[str] = []
    in_section = in_literal = in_example = False
    for line in lines:
        if line.strip() and not line.startswith(" "):
            in_section, in_literal = bool(_SECTION.match(line)), False
            in_example = line == "Example:"
        elif line.strip() and not in_section and not in_literal:
            if not result or not result[-1].strip():
                result += ["::", ""]
                in_literal = True
        result.append(line if in_literal or in_example else _escape(line))
    return result


def _escape(line: str) -> str:
    """Doubles the backticks of code and escapes all other markup."""
    parts = line.split("`")
    if len(parts) % 2 == 0:  # code that spans several lines
        return line
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = f"``{part}``"
        else:
            parts[number] = _MARKUP.sub(r"\\\1", part)
    return "".join(parts)
