"""The crystalline lattice: primes, spirals, similarities, reduction and symmetry, each with its formula and its test.

Mathematics alone: nothing here trains or draws. Every public name is loaded when it is first used, so that
importing this room generates no prime and loads no SciPy.
"""

# ruff: noqa: F401 - the imports below are the names that type checkers see

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cllm_lab.lattice.dimension_reduction import LowRankFactors, rank_for_energy, truncated_svd
    from cllm_lab.lattice.distances import (
        DISTANCES,
        MetricFailures,
        NumberDistance,
        difference_distance,
        factor_distance,
        gcd_over_max_distance,
        half_if_coprime_distance,
        lattice_distance,
        log_ratio_distance,
        metric_failures,
        phase_distance,
        reciprocal_gcd_distance,
        zero_if_coprime_distance,
    )
    from cllm_lab.lattice.historical import (
        HistoricalComparison,
        NumberKinds,
        compare_historical_primes,
        false_primes,
        historical_primes,
        missed_primes,
        number_kinds,
    )
    from cllm_lab.lattice.locality import (
        VOCABULARY_ORDERS,
        frequency_order,
        moved_rows,
        renumbered,
        vocabulary_order,
    )
    from cllm_lab.lattice.neighbours import nearest_neighbours
    from cllm_lab.lattice.phase import (
        COORDINATE_WEIGHT,
        GOLDEN_ANGLE,
        historical_key,
        historical_key_adjoint,
        phase_alignment,
        query_to_key_rotation,
        query_to_key_rotation_adjoint,
        query_to_key_turn,
        query_to_key_turn_adjoint,
        resonance,
        resonance_factor,
        turn_angles,
    )
    from cllm_lab.lattice.primes import (
        factorise,
        is_prime,
        next_prime,
        nth_prime,
        prime_count,
        primes_below,
        smallest_factor,
    )
    from cllm_lab.lattice.quantised_blocks import (
        ProductCost,
        ReducedBlock,
        quantise,
        reduce_block,
        reduce_embedding,
    )
    from cllm_lab.lattice.reduction import (
        Reduction,
        is_size_reduced,
        lattice_determinant,
        lll_reduce,
        lll_reduce_with_transform,
        log_orthogonality_defect,
        most_swaps,
        satisfies_lovasz,
        unimodular_inverse,
    )
    from cllm_lab.lattice.similarity import (
        SIMILARITIES,
        gcd_over_max,
        half_if_coprime,
        historical_gcd_loss,
        reciprocal_gcd,
        zero_if_coprime,
    )
    from cllm_lab.lattice.spirals import (
        ANGLES,
        lattice_coordinates,
        lattice_embedding,
        spiral_angle,
        spiral_embedding,
        spiral_position,
        ulam_coordinates,
        ulam_number,
    )
    from cllm_lab.lattice.symmetry import (
        GroupProperties,
        OperationProperties,
        apply_symmetries,
        cyclic_group,
        dihedral_group,
        equivariance_error,
        group_properties,
        historical_symmetries,
        operation_properties,
        symmetry_class,
    )
    from cllm_lab.lattice.token_features import (
        PAIR_FEATURES,
        PLACE_MAPS,
        PRIME_MAPS,
        TokenLattice,
        token_lattice,
        token_places_of,
        token_primes_of,
    )
    from cllm_lab.lattice.token_primes import (
        TOKEN_PRIMES,
        growth_token_primes,
        nth_token_primes,
        wrapped_token_primes,
    )
    from cllm_lab.lattice.value_cache import (
        BackgroundBuild,
        BuildCancelledError,
        CacheFileError,
        CacheLimitError,
        ValueCache,
        lattice_values,
    )
    from cllm_lab.lattice.word_likeness import NeighbourLikeness, context_likeness, neighbour_likeness

_HOMES = {
    "LowRankFactors": "cllm_lab.lattice.dimension_reduction",
    "rank_for_energy": "cllm_lab.lattice.dimension_reduction",
    "truncated_svd": "cllm_lab.lattice.dimension_reduction",
    "DISTANCES": "cllm_lab.lattice.distances",
    "MetricFailures": "cllm_lab.lattice.distances",
    "NumberDistance": "cllm_lab.lattice.distances",
    "difference_distance": "cllm_lab.lattice.distances",
    "factor_distance": "cllm_lab.lattice.distances",
    "gcd_over_max_distance": "cllm_lab.lattice.distances",
    "half_if_coprime_distance": "cllm_lab.lattice.distances",
    "lattice_distance": "cllm_lab.lattice.distances",
    "log_ratio_distance": "cllm_lab.lattice.distances",
    "metric_failures": "cllm_lab.lattice.distances",
    "phase_distance": "cllm_lab.lattice.distances",
    "reciprocal_gcd_distance": "cllm_lab.lattice.distances",
    "zero_if_coprime_distance": "cllm_lab.lattice.distances",
    "HistoricalComparison": "cllm_lab.lattice.historical",
    "compare_historical_primes": "cllm_lab.lattice.historical",
    "false_primes": "cllm_lab.lattice.historical",
    "historical_primes": "cllm_lab.lattice.historical",
    "missed_primes": "cllm_lab.lattice.historical",
    "number_kinds": "cllm_lab.lattice.historical",
    "NumberKinds": "cllm_lab.lattice.historical",
    "VOCABULARY_ORDERS": "cllm_lab.lattice.locality",
    "frequency_order": "cllm_lab.lattice.locality",
    "moved_rows": "cllm_lab.lattice.locality",
    "renumbered": "cllm_lab.lattice.locality",
    "vocabulary_order": "cllm_lab.lattice.locality",
    "nearest_neighbours": "cllm_lab.lattice.neighbours",
    "COORDINATE_WEIGHT": "cllm_lab.lattice.phase",
    "GOLDEN_ANGLE": "cllm_lab.lattice.phase",
    "historical_key": "cllm_lab.lattice.phase",
    "historical_key_adjoint": "cllm_lab.lattice.phase",
    "phase_alignment": "cllm_lab.lattice.phase",
    "query_to_key_rotation": "cllm_lab.lattice.phase",
    "query_to_key_rotation_adjoint": "cllm_lab.lattice.phase",
    "query_to_key_turn": "cllm_lab.lattice.phase",
    "query_to_key_turn_adjoint": "cllm_lab.lattice.phase",
    "resonance": "cllm_lab.lattice.phase",
    "resonance_factor": "cllm_lab.lattice.phase",
    "turn_angles": "cllm_lab.lattice.phase",
    "factorise": "cllm_lab.lattice.primes",
    "is_prime": "cllm_lab.lattice.primes",
    "next_prime": "cllm_lab.lattice.primes",
    "nth_prime": "cllm_lab.lattice.primes",
    "prime_count": "cllm_lab.lattice.primes",
    "primes_below": "cllm_lab.lattice.primes",
    "smallest_factor": "cllm_lab.lattice.primes",
    "ProductCost": "cllm_lab.lattice.quantised_blocks",
    "ReducedBlock": "cllm_lab.lattice.quantised_blocks",
    "quantise": "cllm_lab.lattice.quantised_blocks",
    "reduce_block": "cllm_lab.lattice.quantised_blocks",
    "reduce_embedding": "cllm_lab.lattice.quantised_blocks",
    "Reduction": "cllm_lab.lattice.reduction",
    "is_size_reduced": "cllm_lab.lattice.reduction",
    "lattice_determinant": "cllm_lab.lattice.reduction",
    "lll_reduce": "cllm_lab.lattice.reduction",
    "lll_reduce_with_transform": "cllm_lab.lattice.reduction",
    "log_orthogonality_defect": "cllm_lab.lattice.reduction",
    "most_swaps": "cllm_lab.lattice.reduction",
    "satisfies_lovasz": "cllm_lab.lattice.reduction",
    "unimodular_inverse": "cllm_lab.lattice.reduction",
    "SIMILARITIES": "cllm_lab.lattice.similarity",
    "gcd_over_max": "cllm_lab.lattice.similarity",
    "half_if_coprime": "cllm_lab.lattice.similarity",
    "historical_gcd_loss": "cllm_lab.lattice.similarity",
    "reciprocal_gcd": "cllm_lab.lattice.similarity",
    "zero_if_coprime": "cllm_lab.lattice.similarity",
    "ANGLES": "cllm_lab.lattice.spirals",
    "lattice_coordinates": "cllm_lab.lattice.spirals",
    "lattice_embedding": "cllm_lab.lattice.spirals",
    "spiral_angle": "cllm_lab.lattice.spirals",
    "spiral_embedding": "cllm_lab.lattice.spirals",
    "spiral_position": "cllm_lab.lattice.spirals",
    "ulam_coordinates": "cllm_lab.lattice.spirals",
    "ulam_number": "cllm_lab.lattice.spirals",
    "GroupProperties": "cllm_lab.lattice.symmetry",
    "OperationProperties": "cllm_lab.lattice.symmetry",
    "apply_symmetries": "cllm_lab.lattice.symmetry",
    "cyclic_group": "cllm_lab.lattice.symmetry",
    "dihedral_group": "cllm_lab.lattice.symmetry",
    "equivariance_error": "cllm_lab.lattice.symmetry",
    "group_properties": "cllm_lab.lattice.symmetry",
    "historical_symmetries": "cllm_lab.lattice.symmetry",
    "operation_properties": "cllm_lab.lattice.symmetry",
    "symmetry_class": "cllm_lab.lattice.symmetry",
    "PAIR_FEATURES": "cllm_lab.lattice.token_features",
    "PLACE_MAPS": "cllm_lab.lattice.token_features",
    "PRIME_MAPS": "cllm_lab.lattice.token_features",
    "TokenLattice": "cllm_lab.lattice.token_features",
    "token_lattice": "cllm_lab.lattice.token_features",
    "token_places_of": "cllm_lab.lattice.token_features",
    "token_primes_of": "cllm_lab.lattice.token_features",
    "TOKEN_PRIMES": "cllm_lab.lattice.token_primes",
    "wrapped_token_primes": "cllm_lab.lattice.token_primes",
    "growth_token_primes": "cllm_lab.lattice.token_primes",
    "nth_token_primes": "cllm_lab.lattice.token_primes",
    "BackgroundBuild": "cllm_lab.lattice.value_cache",
    "BuildCancelledError": "cllm_lab.lattice.value_cache",
    "CacheFileError": "cllm_lab.lattice.value_cache",
    "CacheLimitError": "cllm_lab.lattice.value_cache",
    "ValueCache": "cllm_lab.lattice.value_cache",
    "lattice_values": "cllm_lab.lattice.value_cache",
    "NeighbourLikeness": "cllm_lab.lattice.word_likeness",
    "context_likeness": "cllm_lab.lattice.word_likeness",
    "neighbour_likeness": "cllm_lab.lattice.word_likeness",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
