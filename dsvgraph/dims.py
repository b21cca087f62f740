"""Sizes: integers, or polynomials over named sizes in canonical form, so that ``==`` is algebra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any, TypeAlias, Union

from dsvgraph.codes import Code
from dsvgraph.errors import DsvError

Number: TypeAlias = int | Fraction
Size: TypeAlias = Union[int, "Poly"]

MAX_PRODUCTS = 100_000  # of terms, in one multiplication


@dataclass(frozen=True)
class Floor:
    """The quotient ``above // below`` if it is no polynomial; it stands in a monomial as a name does."""

    above: Size
    below: Size

    def __str__(self) -> str:
        above, below = (f"({s})" if isinstance(s, Poly) and not _is_name(s) else s for s in (self.above, self.below))
        return f"({above}//{below})"


Atom: TypeAlias = str | Floor
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]


class Poly:
    """A polynomial with rational coefficients; never a bare constant (those are numbers).

    >>> 2 * symbol("B") * (symbol("T") + 1)
    2*B + 2*B*T
    """

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        self.terms = dict(terms)
        self._hash: int | None = None
        self._text = ""

    def __add__(self, other: object) -> Size:
        return self if other == 0 else _from_terms(_sum(_terms(self), _terms(other)))

    def __mul__(self, other: object) -> Size:
        if type(other) is int and other:  # most factors are numbers
            return self if other == 1 else Poly({m: _whole(c * other) for m, c in self.terms.items()})
        return _from_terms(_product(_terms(self), _terms(other)))

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: object) -> Size:
        return self + _from_terms({m: -c for m, c in _terms(other).items()})

    def __rsub__(self, other: object) -> Size:
        return _from_terms(_sum(_terms(other), {m: -c for m, c in self.terms.items()}))

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Size:
        return divide(self, other)

    def __rtruediv__(self, other: object) -> Size:
        return divide(other, self)

    def __floordiv__(self, other: object) -> Size:
        return floordiv(self, other)

    def __rfloordiv__(self, other: object) -> Size:
        return floordiv(other, self)

    def __pow__(self, power: object) -> Size:
        if not isinstance(power, int) or not 0 <= power <= 16:
            raise ValueError(f"a symbolic size can be raised to the powers 0 to 16, not {power}")
        return product([self] * power)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __bool__(self) -> bool:
        return True

    def names(self) -> frozenset[str]:
        """Return the named sizes that it depends on."""
        atoms = [atom for monomial in self.terms for atom, _ in monomial]
        inner = [size for atom in atoms if isinstance(atom, Floor) for size in (atom.above, atom.below)]
        return frozenset(atom for atom in atoms if isinstance(atom, str)).union(*map(names, inner))

    def __str__(self) -> str:
        if not self._text:
            terms = sorted(self.terms.items(), key=_order)
            self._text = " + ".join(_term_text(m, c) for m, c in terms).replace("+ -", "- ")
        return self._text

    __repr__ = __str__


def symbol(name: str) -> Poly:
    """Return the size that is the name ``name``."""
    return Poly({((name, 1),): 1})


def divide(above: object, below: object) -> Size:
    """Return ``above / below``. Raise ValueError if the quotient is no polynomial."""
    divisor = _divisor(below)
    if len(divisor) != 1:
        quotient = _ratio(_terms(above), divisor)
        if quotient is None:
            raise ValueError(f"{above} cannot be divided by {below} as a size")
        return _from_terms({(): quotient})
    ((monomial, factor),) = divisor.items()
    return _from_terms({_over(m, monomial): Fraction(c) / factor for m, c in _terms(above).items()})


def ratio(above: object, below: object) -> Size:
    """Return ``above / below``; names may stay in the denominator, as negative powers.

    Raise ValueError if ``below`` is a sum that does not divide ``above``.
    """
    divisor = _terms(below)
    if len(divisor) != 1:
        return divide(above, below)
    ((monomial, factor),) = divisor.items()
    inverse = {tuple((a, -p) for a, p in monomial): 1 / Fraction(factor)}
    return _from_terms(_product(_terms(above), inverse))


def floordiv(above: object, below: object) -> Size:
    """Return ``above // below``: a polynomial if the division is exact, else a `Floor`."""
    _divisor(below)
    if isinstance(above, int) and isinstance(below, int):
        return above // below
    try:
        exact = divide(above, below)
        if all(Fraction(c).denominator == 1 for c in _terms(exact).values()):
            return exact
    except ValueError:
        pass
    return Poly({((Floor(_as_size(above), _as_size(below)), 1),): 1})


def evaluate(size: Size | Fraction, values: Mapping[str, int]) -> Number:
    """Return ``size`` with every name replaced by its value. Raise KeyError if a name has none."""
    if not isinstance(size, Poly):
        return size
    total: Number = 0
    for monomial, factor in size.terms.items():
        total += factor * prod(_powered(_atom_value(a, values), p) for a, p in monomial)
    return _whole(total)


def substitute(size: Size, values: Mapping[str, Size]) -> Size:
    """Return ``size`` with the names in ``values`` replaced by numbers or sizes; other names stay."""
    if not isinstance(size, Poly):
        return size
    total: Size = 0
    for monomial, factor in size.terms.items():
        total = total + _scaled([_powered(_atom_kept(a, values), p) for a, p in monomial], factor)
    return total


def names(size: object) -> frozenset[str]:
    """Return the named sizes that ``size`` depends on."""
    return size.names() if isinstance(size, Poly) else frozenset()


def total(sizes: Iterable[Size]) -> Size:
    """Return the sum of ``sizes``."""
    terms: dict[Monomial, Number] = {}
    for size in sizes:
        for monomial, factor in _terms(size).items():
            terms[monomial] = terms.get(monomial, 0) + factor
    return _from_terms(terms)


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of ``sizes``."""
    found: Size = 1
    for size in sizes:
        found = found * size
    return found


def _is_name(size: Poly) -> bool:
    return str(size).isidentifier()


def _terms(value: object) -> dict[Monomial, Number]:
    if isinstance(value, Poly):
        return value.terms
    if isinstance(value, (int, Fraction)):
        return {(): value} if value else {}
    raise ValueError(f"{value!r} is not a size")


def _divisor(value: object) -> Mapping[Monomial, Number]:
    terms = _terms(value)
    if not terms:
        raise ZeroDivisionError("division by zero")
    return terms


def _as_size(value: object) -> Size:
    return _from_terms(_terms(value))


def _whole(value: Number) -> Number:
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value


def _from_terms(terms: Mapping[Monomial, Number]) -> Size:
    kept = {m: _whole(c) for m, c in terms.items() if c}
    if not kept:
        return 0
    if list(kept) == [()]:
        return kept[()]  # type: ignore[return-value]
    return Poly(kept)


def _sum(a: Mapping[Monomial, Number], b: Mapping[Monomial, Number]) -> dict[Monomial, Number]:
    terms = dict(a)
    for monomial, factor in b.items():
        terms[monomial] = terms.get(monomial, 0) + factor
    return terms


def _product(a: Mapping[Monomial, Number], b: Mapping[Monomial, Number]) -> dict[Monomial, Number]:
    if len(a) * len(b) > MAX_PRODUCTS:
        raise DsvError(f"a size would be a sum of more than {MAX_PRODUCTS:,} products", code=Code.NUMBER_LIMIT)
    terms: dict[Monomial, Number] = {}
    for m, c in a.items():
        for n, d in b.items():
            key = _times(m, n)
            terms[key] = terms.get(key, 0) + c * d
    return terms


def _times(m: Monomial, n: Monomial) -> Monomial:
    if not m or not n:
        return m or n
    powers = dict(m)
    for atom, power in n:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(((a, p) for a, p in powers.items() if p), key=lambda item: str(item[0])))


def _over(m: Monomial, n: Monomial) -> Monomial:
    quotient = _times(m, tuple((a, -p) for a, p in n))
    if any(p < 0 for _, p in quotient):
        raise ValueError("the quotient is not a polynomial")
    return quotient


def _ratio(above: Mapping[Monomial, Number], below: Mapping[Monomial, Number]) -> Number | None:
    """Return the constant c with above == c * below; None if there is none."""
    if not above:
        return 0
    if above.keys() != below.keys():
        return None
    ratios = {Fraction(c) / below[m] for m, c in above.items()}
    return _whole(ratios.pop()) if len(ratios) == 1 else None


def _scaled(factors: list[Size], factor: Number) -> Size:
    return _from_terms(_product(_terms(product(factors)), {(): factor}))


def _powered(base: Any, power: int) -> Any:
    return base**power if power >= 0 else ratio(1, base**-power)


def _atom_value(atom: Atom, values: Mapping[str, int]) -> Number:
    if isinstance(atom, Floor):
        return evaluate(atom.above, values) // evaluate(atom.below, values)
    return values[atom]


def _atom_kept(atom: Atom, values: Mapping[str, Size]) -> Size:
    if isinstance(atom, Floor):
        return floordiv(substitute(atom.above, values), substitute(atom.below, values))
    return values[atom] if atom in values else symbol(atom)


def _order(term: tuple[Monomial, Number]) -> tuple[bool, int, str]:
    monomial, _ = term
    powers = [p for _, p in monomial]
    return any(p < 0 for p in powers), sum(powers), "*".join(str(a) for a, _ in monomial)


def _term_text(monomial: Monomial, factor: Number) -> str:
    exact = Fraction(factor)
    above = [_power_text(a, p) for a, p in monomial if p > 0]
    below = [str(exact.denominator)] * (exact.denominator != 1)
    below += [_power_text(a, -p) for a, p in monomial if p < 0]
    if abs(exact.numerator) != 1 or not above:
        above = [str(abs(exact.numerator)), *above]
    quotient = "" if not below else f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})"
    return ("-" if exact < 0 else "") + "*".join(above) + quotient


def _power_text(atom: Atom, power: int) -> str:
    return str(atom) if power == 1 else f"{atom}**{power}"
