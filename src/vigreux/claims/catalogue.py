"""All claims that `vigreux reproduce` knows, by name."""

from __future__ import annotations

from vigreux.claims import (
    c01_width,
    c02_progressive,
    c02h_hierarchical,
    c03_position,
    c04_hard_targets,
    c05_correlations,
    c06_features,
    c07_extraction,
    c08_transformers,
    c09_phases,
    c09g_gpt2,
    c10_speed,
    c11_language,
    c11c_causal,
    c12_order,
    c12t_order_transformers,
)
from vigreux.claims.common.claim import Claim

# in the order in which `vigreux reproduce all` runs them: claims about one teacher follow each other
_CLAIMS = (
    c01_width.CLAIM,
    c02_progressive.CLAIM,
    c03_position.CLAIM,
    c04_hard_targets.CLAIM,
    c05_correlations.CLAIM,
    c06_features.CLAIM,
    c02h_hierarchical.CLAIM,
    c07_extraction.CLAIM,
    c08_transformers.CLAIM,
    c09_phases.CLAIM,
    c09g_gpt2.CLAIM,
    c10_speed.CLAIM,
    c12_order.CLAIM,
    c12t_order_transformers.CLAIM,
    c11_language.CLAIM,
    c11c_causal.CLAIM,
)
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _CLAIMS}
