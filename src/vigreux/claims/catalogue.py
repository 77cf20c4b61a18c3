"""Which claims can be reproduced; the one place where they are listed."""

from __future__ import annotations

from vigreux.claims import (
    ablation,
    correlations,
    extraction,
    grammar_extraction,
    grammar_gpt2,
    grammar_phases,
    hierarchical,
    language,
    language_causal,
    progressive,
    token_ablation,
    token_students,
    two_shot,
    width_study,
)
from vigreux.claims.claim import Claim

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        width_study.CLAIM,
        progressive.CLAIM,
        two_shot.POSITIONS,
        two_shot.HARD_TARGETS,
        correlations.CLAIM,
        hierarchical.CLAIM,
        hierarchical.PROGRESSIVE_CLAIM,
        extraction.CLAIM,
        token_students.CLAIM,
        grammar_phases.CLAIM,
        grammar_gpt2.CLAIM,
        grammar_extraction.CLAIM,
        ablation.CLAIM,
        token_ablation.CLAIM,
        language.CLAIM,
        language_causal.CLAIM,
    )
}
