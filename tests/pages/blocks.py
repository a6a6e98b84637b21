"""The code blocks of a page of the documentation, in their order."""

import re
from dataclasses import dataclass, replace

from markdown_it import MarkdownIt

# The comments that say more of a page's code than its readers need to see.
BACKGROUND = "<!-- background -->"  # what follows is a server, which runs until the page's end
HIDDEN = "<!-- python\n"  # what follows, to the comment's end, is code to be run and not shown


@dataclass(frozen=True)
class Block:
    """A piece of code: its language, its text, the line before it, whether it goes on, and what it says."""

    language: str
    code: str
    line: int
    background: bool = False
    says: str | None = None

    @property
    def file(self) -> str | None:
        """The name of the file that this is, if its first line is a comment that says so."""
        first = self.code.partition("\n")[0]
        words = first.removeprefix("#").split()
        is_one = first.startswith("#") and len(words) == 1 and "." in words[0]
        return words[0] if is_one and self.language in {"python", "toml", "yaml", "ini"} else None


def blocks(page: str) -> list[Block]:
    """Find all that there are; Sphinx's directives are not code, nor is `text`.

    If it follows a piece of code at once, it is what that says, or a part of it.

    Raises:
        ValueError: It can't be told what something is.

    """
    found = []
    background = follows = (
        False  # whether the last token was one that says that, or a piece of code
    )
    for token in MarkdownIt().parse(page):
        text = token.content
        first_line = token.map[0] if token.map else 0
        if token.type == "html_block":
            background = text.strip() == BACKGROUND
            if text.startswith(HIDDEN):
                code = text.removeprefix(HIDDEN).strip().removesuffix("-->")
                found.append(Block("python", code, first_line + 1))
            elif background is False and re.match(
                r"<!--\s*(python|background)", text, re.IGNORECASE
            ):
                raise ValueError(text)
        elif token.type == "fence":
            language = (token.info.split() or [""])[0]
            if not language or "code" in language:
                raise ValueError(text)
            if language == "text" and follows:
                found[-1] = replace(found[-1], says=text)
            if language != "text" and not language.startswith("{"):
                found.append(Block(language, text, first_line + 1, background))
                follows = True
                background = False
                continue
            background = False
        elif token.type == "code_block":  # by its indentation
            raise ValueError(text)
        follows = False
    return found
