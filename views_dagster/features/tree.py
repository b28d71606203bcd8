"""Sums over all cells of the lattice weighted by distance: hierarchical with a quadtree, or exact.

The definitions of the tree are those of VIEWS' views_transformation_library (spatial_tree), after Barnes & Hut (1986),
Nature 324: a far square of cells counts as one, at the distance of its centre.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.geography import Raster

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

# The tree adds this to both coordinates of every difference, which keeps the distance of a cell to itself above 0.
OFFSET: Final = 0.01
KERNELS: Final[tuple[Callable[[Matrix], Matrix], ...]] = (
    lambda d: 1 / np.log1p(d),
    lambda d: 1 / d,
    lambda d: 1 / d**2,
)
TARGETS_AT_ONCE: Final = 512
PAIRS_KEPT: Final = 30_000_000


@dataclass(frozen=True)
class Level:
    """Nodes of one size.

    Attributes:
        size: side of a node, in cells.
        x, y: (N,) centre of each node.
        first, children: (N,) its children are the nodes `first .. first + children - 1` of the next level.
        id: number of the level's first node in the whole tree.
    """

    size: int
    x: Matrix
    y: Matrix
    first: Indices
    children: Indices
    id: int


@dataclass(frozen=True)
class Tree:
    """A quadtree over cells in the smallest square with a power of two for its side, the cells in its middle.

    A node stands for the cells within it: its value is their sum, its place the centre of its square.

    Attributes:
        cells: (C,) positions of the cells in the lattice.
        x, y: (C,) their centres in the square.
        leaf: (C,) position of each cell's node among those of the last level.
        levels: from the root to the leaves.
    """

    cells: Indices
    x: Matrix
    y: Matrix
    leaf: Indices
    levels: tuple[Level, ...]
    _kept: dict[float, list["csr_matrix[Any]"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def over(cls, cells: Indices, column: Indices, row: Indices) -> "Tree":
        """The tree over cells at 0-based columns and rows; one of them is in column 0 and one in row 0."""
        reach = max(int(column.max()), int(row.max()))
        depth = reach.bit_length()
        side = 1 << depth
        x = column + (side - int(column.max())) // 2 if depth else column
        y = row + (side - int(row.max())) // 2 if depth else row

        # Nodes in Morton order, so that the children of a node stand together.
        code = np.zeros(len(cells), dtype=np.int64)
        for bit in range(depth):
            code |= ((x >> bit) & 1) << (2 * bit) | ((y >> bit) & 1) << (2 * bit + 1)
        levels: list[Level] = []
        number = 0
        for height in range(depth, -1, -1):
            nodes, example = np.unique(code >> (2 * height), return_index=True)
            size = 1 << height
            # Leaves have no children: nothing is below them.
            above = np.unique(code >> (2 * height - 2)) >> 2 if height else nodes[:0]
            first, end = np.searchsorted(above, nodes), np.searchsorted(above, nodes, side="right")
            centre_x, centre_y = (_centre(side[example] >> height, size) for side in (x, y))
            levels.append(Level(size, centre_x, centre_y, np.asarray(first), np.asarray(end - first), number))
            number += len(nodes)
        return cls(
            cells, np.asarray(x + 0.5), np.asarray(y + 0.5), np.searchsorted(np.unique(code), code), tuple(levels)
        )

    @cached_property
    def stock(self) -> "csr_matrix[Any]":
        """(nodes, C): 1 where the cell lies in the node."""
        from scipy.sparse import csr_matrix

        of, node = [], self.leaf
        for upper, lower in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            of.append(node + lower.id)
            node = np.repeat(np.arange(len(upper.x)), upper.children)[node]
        of.append(node)
        nodes = self.levels[-1].id + len(self.levels[-1].x)
        cells = np.tile(np.arange(len(self.cells)), len(of))
        return csr_matrix((np.ones(len(cells)), (np.concatenate(of), cells)), shape=(nodes, len(self.cells)))

    def lag(self, values: Matrix, theta: float, kernel: int) -> Matrix:
        """Sums over nodes (C, M) of `values` (C, M) at opening angle `theta`, above 0."""
        sums = self.stock @ values
        weigh = KERNELS[kernel]
        result = np.empty_like(values)
        start = 0
        for distances in self._interactions(theta):
            weights = distances.copy()
            weights.data = weigh(distances.data)
            result[start : start + weights.shape[0]] = weights @ sums
            start += weights.shape[0]
        return result

    def _interactions(self, theta: float) -> Iterator["csr_matrix[Any]"]:
        """Distances from cells (some hundred at a time) to the nodes that stand for all others."""
        if theta in self._kept:
            yield from self._kept[theta]
            return
        blocks: list[csr_matrix[Any]] | None = []
        for start in range(0, len(self.cells), TARGETS_AT_ONCE):
            block = self._walk(np.arange(start, min(start + TARGETS_AT_ONCE, len(self.cells))), theta)
            yield block
            if blocks is not None:
                blocks.append(block)
                if sum(kept.nnz for kept in blocks) > PAIRS_KEPT:
                    blocks = None
        if blocks is not None:
            self._kept[theta] = blocks

    def _walk(self, targets: Indices, theta: float) -> "csr_matrix[Any]":
        """Nodes that stand for the others: opened where side over distance exceeds theta, the cell itself left out."""
        from scipy.sparse import csr_matrix

        target, node = np.arange(len(targets)), np.zeros(len(targets), dtype=np.int64)
        found: list[tuple[Indices, Indices, Matrix]] = []
        for level in self.levels:
            dx = self.x[targets[target]] - level.x[node] + OFFSET
            dy = self.y[targets[target]] - level.y[node] + OFFSET
            distance = np.sqrt(dx * dx + dy * dy)
            opened = level.size / distance > theta
            is_other_leaf = (self.leaf[targets[target]] != node) & (level.size == 1)
            taken = ~opened | is_other_leaf
            found.append((target[taken], node[taken] + level.id, distance[taken]))
            target, node = target[opened], node[opened]
            children = level.children[node]
            within = np.arange(children.sum()) - np.repeat(np.cumsum(children) - children, children)
            target, node = np.repeat(target, children), np.repeat(level.first[node], children) + within
        rows, columns, distances = (np.concatenate(part) for part in zip(*found, strict=True))
        return csr_matrix((distances, (rows, columns)), shape=(len(targets), self.stock.shape[0]))


def _centre(position: Indices, size: int) -> Matrix:
    return np.asarray((position + 0.5) * size, dtype=np.float64)


def exact_sums(gid: Indices, values: Matrix, kernel: int) -> Matrix:
    """Sums (U, M) over all other cells weighted by the kernel of their distance, every pair of cells counted apart.

    A convolution with the kernel, in O(N log N) of the cells of the rectangle around `gid`. Its rounding errors are
    some 1e-15 of the month's largest value.
    """
    from scipy import fft

    raster = Raster.around(gid)
    rows, columns = raster.shape
    dy, dx = np.mgrid[1 - rows : rows, 1 - columns : columns]
    weights = KERNELS[kernel](np.hypot(dy + OFFSET, dx + OFFSET))
    weights[rows - 1, columns - 1] = 0
    shape = tuple(fft.next_fast_len(3 * side - 2, real=True) for side in raster.shape)
    spectrum = fft.rfft2(weights, shape)
    result = np.empty_like(values)
    for month in np.flatnonzero((values != 0).any(axis=0)):
        summed = fft.irfft2(fft.rfft2(raster.paint(values[:, month]), shape) * spectrum, shape)
        result[:, month] = raster.pick(summed[rows - 1 : 2 * rows - 1, columns - 1 : 2 * columns - 1])
    result[:, ~(values != 0).any(axis=0)] = 0
    return result
