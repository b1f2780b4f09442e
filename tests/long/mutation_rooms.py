"""What `tests.long.mutation` changes: the rooms, and for each the tests that must notice."""


def named(file: str, *tests: str) -> list[str]:
    """Return what pytest calls some tests of ``tests/test_FILE.py``."""
    return [f"tests/test_{file}.py::test_{test}" for test in tests]


# The quick tests of files in which others take long.
INFLUENCE = [
    *named(
        "by_influence",
        "outputs_that_read_two_modules_are_a_module_above_them[0]",
        "jacobians_over_data_find_the_same_groups",
        "membership_is_one_hot_where_wiring_decides",
        "blocks_of_wiring_are_left_to_wiring",
        "an_output_without_influence_is_in_no_module",
        "influence_needs_weights",
        "small_and_strange_networks_have_an_answer",
        "normalising_keeps_path_sums",
        "a_basis_holds_its_energy_in_as_few_dimensions_as_it_can",
        "paths_are_counted_per_pair_of_an_input_and_an_output",
        "wiring_is_modular_where_edges_keep_to_groups",
        "hidden_units_get_incoming_weights_of_norm_1_and_a_sum_that_is_not_negative",
        "a_module_reads_what_differs_between_its_outputs_and_writes_what_its_inputs_send",
        "units_are_ordered_by_their_weights",
    ),
    *named(
        "coclusters",
        "co_clusters_take_the_number_that_stands_out",
        "the_best_modularity_is_nearly_that_of_trying_all_partitions",
        "rows_and_columns_without_influence_do_not_count",
        "the_modularity_is_compared_with_that_of_shuffled_networks",
        "the_first_groups_are_those_of_wards_tree",
        "p_values_count_the_networks_that_stand_out_as_much",
        "two_kinds_of_values_are_told_apart_only_where_a_valley_is_clear",
        "outputs_that_read_several_groups_are_groups_of_their_own",
    ),
]
DEGREES = [
    *named(
        "degrees",
        "expected_edges_add_up_to_the_degrees_and_stay_below_one",
        "expected_edges_have_the_least_biased_form",
        "equal_degrees_leave_the_description_without_correction",
    ),
    *named("description", "a_graph_knows_its_neighbours_and_degrees_by_layer"),
]
DESCRIPTION = [
    *DEGREES,
    *named(
        "description",
        "log_choose_is_what_it_says",
        "log_choose_keeps_its_digits_where_factorials_lose_them",
        "length_equals_the_formula",
        "trivial_partition_takes_the_number_of_graphs",
        "cluster_bits_are_the_divergence_from_equal_density",
        "array_operations_give_what_compiled_loops_give[1]",
        "units_are_named_after_the_cluster_that_they_have_most_edges_with",
    ),
    *named(
        "description_search",
        "the_chosen_pairs_are_mostly_the_best_of_all_sets",
        "a_unit_moves_to_its_best_cluster_but_not_where_two_are_equally_good",
        "best_moves_and_merges_are_those_of_trying_all",
    ),
]
SMALL_AND_LARGE = named(
    "by_description",
    "small_layers_are_decided_one_by_one",
    "large_layers_are_decided_together",
    "layers_of_ten_units_are_described",
)
SEARCH = [
    *SMALL_AND_LARGE,
    *named(
        "by_description",
        "what_is_found_is_no_longer_than_trivial_and_no_cluster_spans_layers",
        "held_layers_keep_their_clusters",
        "what_does_not_fit_into_memory_is_refused",
        "unit_order_does_not_matter",
        "the_best_of_given_partitions_is_taken_in_each_layer",
        "memory_is_estimated_from_above",
        "what_is_found_is_no_longer_than_what_was_planted",
        "a_layer_without_units_is_not_decided",
    ),
    *named(
        "description_search",
        "units_are_rearranged_where_their_sets_differ",
        "the_better_half_of_the_changes_is_tried_next",
        "trees_are_cut_into_at_most_so_many_clusters",
        "a_layer_is_replaced_where_another_partition_is_shorter",
        "a_misplaced_unit_moves_and_halves_are_joined",
    ),
]
# Room: its file, and the tests that must notice.
ROOMS = {
    "modules": ("modgraph/modules.py", ["tests/test_modules.py", "tests/test_merge.py", *INFLUENCE[:7]]),
    "merge": ("modgraph/merge.py", ["tests/test_merge.py", "tests/test_modules.py"]),
    "reach": ("modgraph/reach.py", ["tests/test_reach.py"]),
    "choose": ("modgraph/cluster/choose.py", ["tests/test_cluster.py"]),
    "rows": ("modgraph/cluster/rows.py", ["tests/test_cluster.py"]),
    "tree": ("modgraph/cluster/tree.py", ["tests/test_cluster.py"]),
    "methods": ("modgraph/cluster/methods.py", ["tests/test_modules.py", *SMALL_AND_LARGE]),
    "description": ("modgraph/cluster/description.py", DESCRIPTION),
    "plain": ("modgraph/cluster/description_plain.py", DESCRIPTION),
    "by_description": ("modgraph/cluster/by_description.py", SEARCH),
    "search": ("modgraph/cluster/description_search.py", SEARCH),
    "sparse": ("modgraph/cluster/sparse.py", ["tests/test_sparse_linkage.py"]),
    "leiden": ("modgraph/cluster/leiden.py", ["tests/test_leiden.py"]),
    "degrees": ("modgraph/cluster/degrees.py", DEGREES),
    "coclusters": ("modgraph/cluster/coclusters.py", INFLUENCE),
    "by_influence": ("modgraph/cluster/by_influence.py", INFLUENCE),
    "attributed": ("modgraph/cluster/attributed.py", ["tests/test_attribution.py"]),
    "tree_kernels": ("modgraph/cluster/tree_kernels.py", ["tests/test_cluster.py"]),
    "description_kernels": ("modgraph/cluster/description_kernels.py", DESCRIPTION),
    "search_kernels": ("modgraph/cluster/description_search_kernels.py", DESCRIPTION),
    "sparse_kernels": ("modgraph/cluster/sparse_kernels.py", ["tests/test_sparse_linkage.py"]),
    "score": ("modgraph/score.py", ["tests/test_score.py"]),
    "prune": ("modgraph/sculpt/prune.py", ["tests/test_sculpt_prune.py"]),
}
# Not here: `cluster/blockmodel.py`, whose tests need graph-tool.
