from hypothesis import given
from hypothesis import strategies as st

from zephyr_bench.engines.prefix_plan import absorb, common_prefix, plan, tokens_computed

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40).map(tuple), max_size=30)


def free_of_prefixes(found):
    return sorted(set(absorb(found).values()))


@given(sequences)
def test_every_sequence_is_in_one_group(found):
    distinct = free_of_prefixes(found)
    members = [member for group in plan(distinct) for member in group.members]
    assert sorted(members) == list(range(len(distinct)))


@given(sequences)
def test_members_of_a_group_share_its_prefix_and_have_a_rest(found):
    distinct = free_of_prefixes(found)
    for group in plan(distinct):
        assert len({distinct[member][: group.prefix] for member in group.members}) == 1 or group.prefix == 0
        assert all(len(distinct[member]) > group.prefix for member in group.members)


@given(sequences)
def test_sharing_never_computes_more_than_not_sharing(found):
    distinct = free_of_prefixes(found)
    assert tokens_computed(plan(distinct), distinct) <= sum(map(len, distinct))


@given(sequences)
def test_every_sequence_begins_the_one_that_absorbs_it(found):
    for sequence, longest in absorb(found).items():
        assert longest[: len(sequence)] == sequence


@given(sequences)
def test_what_absorbs_is_absorbed_by_nothing_else(found):
    kept = set(absorb(found).values())
    assert all(a == b or b[: len(a)] != a for a in kept for b in kept)


@given(st.lists(st.integers(0, 1)).map(tuple), st.lists(st.integers(0, 1)).map(tuple))
def test_common_prefix_is_the_longest(first, second):
    length = common_prefix(first, second)
    assert first[:length] == second[:length]
    assert first[length : length + 1] != second[length : length + 1] or length in (len(first), len(second))


def test_long_shared_context_is_computed_once():
    context = tuple(range(500))
    found = [(*context, 1000 + choice, 7, 8) for choice in range(4)]
    (group,) = plan(found)
    assert (group.prefix, tokens_computed([group], found)) == (500, 512)


def test_two_questions_under_one_instruction_keep_their_own_prefixes():
    instruction, first, second = tuple(range(10)), tuple(range(100, 400)), tuple(range(400, 700))
    found = [(*instruction, *question, choice, 9) for question in (first, second) for choice in range(2000, 2004)]
    assert sorted(group.prefix for group in plan(found)) == [310, 310]


def test_a_short_shared_prefix_is_not_worth_a_pass_of_its_own():
    (group,) = plan([(1, 2, 3), (1, 2, 4)])
    assert group.prefix == 0
