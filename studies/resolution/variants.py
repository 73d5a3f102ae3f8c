"""The twelve trained variants and the settings at which each is evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field

from studies.resolution.views import ANYRES, View


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to train; all variants see the same pages in the same order."""

    views: tuple[View, ...]
    """Settings of training, drawn with equal probability."""
    exams: tuple[View, ...]
    """Settings of the evaluation, the main one first."""
    large: tuple[View, ...] = ()
    """Settings of the evaluation on 8K-like pages."""
    merge: str = "concat"
    """Name of a projector merge of `ixc.model.projector_merge`."""
    newline: bool = True
    """A newline ends every row of tokens."""
    overview: bool = True
    """Overview and separator come first."""
    seeds: tuple[int, ...] = field(default=(1, 2, 3))
    """Seeds of the order of the data and of the new modules."""


def _at(*hds: int, rule: str = "original") -> tuple[View, ...]:
    return tuple(View(hd=hd, rule=rule) for hd in hds)


MIXED = _at(25, 55)
"""The paper's 4KHD setting."""

FITTED = _at(9, 25, 55)
"""Settings of the fit of merge and projector, before any variant's own training."""

VARIANTS = {
    "hd9": Variant(views=_at(9), exams=_at(9, 16, 25)),
    "hd16": Variant(views=_at(16), exams=_at(16, 25)),
    "hd25": Variant(
        views=_at(25), exams=(*_at(25, 30, 55), *_at(25, rule="fit"), *_at(25, rule="native")), large=_at(25)
    ),
    "4khd": Variant(
        views=MIXED,
        exams=(*_at(55, 25, 65, 96), *_at(55, rule="fit"), *_at(55, rule="native")),
        large=_at(25, 55, 96, 220),
    ),
    "hd9-no-overview": Variant(views=_at(9), exams=_at(9), overview=False),
    "hd9-no-newline": Variant(views=_at(9), exams=_at(9), newline=False),
    "4khd-no-newline": Variant(views=MIXED, exams=_at(55), newline=False),
    "4khd-c-abstractor": Variant(views=MIXED, exams=_at(55), merge="c_abstractor"),
    "4khd-resampler": Variant(views=MIXED, exams=_at(55), merge="resampler"),
    "anyres9": Variant(views=_at(9, rule=ANYRES), exams=_at(9, rule=ANYRES)),
    "hd25-fit": Variant(views=_at(25, rule="fit"), exams=_at(25, rule="fit")),
    "hd25-native": Variant(views=_at(25, rule="native"), exams=_at(25, rule="native")),
}
"""The variants by name."""
