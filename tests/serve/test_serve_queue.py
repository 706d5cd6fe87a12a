"""The queue: fair, bounded batches, whatever comes and goes."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tessera.serve.queue import RequestQueue


@dataclass(eq=False)
class Item:
    key: str | None
    rows: int = 1
    enqueued_s: float = 0.0


def filled(max_rows: int, *items: Item) -> RequestQueue[Item]:
    queue: RequestQueue[Item] = RequestQueue(max_rows)
    for item in items:
        queue.push(item)
    return queue


def test_take_groups_compatible_requests_behind_the_oldest() -> None:
    a, b, c, d = Item("x"), Item("y"), Item("x"), Item("y")
    queue = filled(8, a, b, c, d)
    assert queue.take() == [a, c]
    assert queue.take() == [b, d]
    assert queue.take() == []


def test_take_stops_at_the_first_that_does_not_fit() -> None:
    a, b, c = Item("x", 3), Item("x", 6), Item("x", 1)
    queue = filled(8, a, b, c)
    assert queue.take() == [a]
    assert queue.take() == [b, c]


def test_take_larger_than_a_batch_goes_alone() -> None:
    big, small = Item("x", 100), Item("x", 1)
    queue = filled(8, big, small)
    assert queue.take() == [big]
    assert queue.take() == [small]


def test_take_without_key_goes_alone() -> None:
    a, b = Item(None), Item(None)
    queue = filled(8, a, b)
    assert queue.take() == [a]
    assert queue.take() == [b]


def test_is_full_when_the_oldest_group_fills_a_batch() -> None:
    queue = filled(4, Item("x", 2), Item("y", 9))
    assert not queue.is_full()
    queue.push(Item("x", 2))
    assert queue.is_full()


def test_oldest_is_that_of_the_next_batch() -> None:
    first, second = Item("x", enqueued_s=1.5), Item("y", enqueued_s=2.5)
    queue = filled(4, first, second)
    assert queue.oldest_s() == 1.5
    assert queue.remove(first)
    assert not queue.remove(first)
    assert queue.oldest_s() == 2.5


steps = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "take", "remove"]), st.integers(0, 12), st.integers(1, 6)
    ),
    max_size=60,
)


@given(steps, st.integers(1, 8))
def test_queue_gives_everything_once_in_order_within_bounds(
    steps: list[tuple[str, int, int]], most: int
) -> None:
    queue: RequestQueue[Item] = RequestQueue(most)
    model: list[Item] = []
    for action, number, rows in steps:
        if action == "push":
            item = Item(None if number == 0 else "abc"[number % 3], rows)
            queue.push(item)
            model.append(item)
        elif action == "remove" and model:
            assert queue.remove(model.pop(number % len(model)))
        elif action == "take":
            batch = queue.take()
            if not model:
                assert batch == []
                continue
            # As written in the docstring, computed the slow way.
            same = [i for i in model if i.key == model[0].key] if model[0].key is not None else model[:1]
            expected = same[:1]
            for item in same[1:]:
                if sum(i.rows for i in expected) + item.rows > most:
                    break
                expected.append(item)
            assert batch == expected
            for item in batch:
                model.remove(item)
        assert len(queue) == len(model)
