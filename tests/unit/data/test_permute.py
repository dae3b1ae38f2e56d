import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.order.permute import permute

keys = st.tuples(st.integers(0, 2**63), st.integers(0, 9), st.integers(0, 99))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 3000), key=keys)
def test_every_position_goes_to_a_place_of_its_own(size: int, key: tuple[int, ...]) -> None:
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 10**12), key=keys, data=st.data())
def test_a_position_goes_to_the_same_place_alone_and_in_company(
    size: int, key: tuple[int, ...], data: st.DataObject
) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)))
    together = permute(positions, size, key)
    assert [permute(positions[i : i + 1], size, key)[0] for i in range(len(positions))] == together.tolist()
    assert ((together >= 0) & (together < size)).all()


def test_keys_give_unrelated_orders() -> None:
    orders = [permute(np.arange(1000), 1000, (seed, 0, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    orders.append(np.arange(1000))
    for i, one in enumerate(orders):
        for other in orders[i + 1 :]:
            assert (one == other).sum() < 10
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.15


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert permute(np.arange(8), 8, (0, 0, 0)).tolist() == [7, 2, 6, 1, 5, 4, 0, 3]
    # A power of four, which fills its network.
    assert permute(np.arange(16), 16, (0, 0, 0)).tolist() == [9, 2, 14, 1, 12, 4, 0, 10, 3, 7, 8, 6, 5, 15, 13, 11]
