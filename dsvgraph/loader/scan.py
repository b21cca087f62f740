"""Tokens of YAML text: ruamel.yaml's, stopped where brackets nest deeper than a spec may."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.scanner import Scanner, ScannerError

MAX_DEPTH = 40  # of values; the composer holds it for blocks and aliases too
TOO_DEEP = f"values nest at most {MAX_DEPTH} deep"


class Tokens(Scanner):
    """Raises ScannerError with the words TOO_DEEP at the bracket that nests too deep."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:
        # An open bracket may begin a key of 1,024 characters: the base asks that of all that are open, at each.
        if self.flow_level >= MAX_DEPTH:
            raise ScannerError(None, None, TOO_DEEP, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)

    def need_more_tokens(self) -> bool:
        # As the base has it, without asking the keys that may be open where there is none.
        if self.tokens and not self.possible_simple_keys:
            return False
        more: bool = super().need_more_tokens()
        return more
