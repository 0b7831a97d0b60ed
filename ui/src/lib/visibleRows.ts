// Which rows of a long list are worth having elements, so that thousands cost no more than a screenful.

export interface VisibleRows {
  first: number;
  /** The row behind the last one. */
  end: number;
  /** Pixels of the rows above `first`, and of those from `end` on. */
  above: number;
  below: number;
}

/**
 * The rows that touch the window from `top` to `top + height`, and a few pixels more on both sides.
 * `heights` are those of all rows, in pixels.
 */
export function visibleRows(
  heights: readonly number[],
  top: number,
  height: number,
  margin: number,
): VisibleRows {
  let above = 0;
  let first = 0;
  while (first < heights.length && above + (heights[first] ?? 0) <= top - margin) {
    above += heights[first] ?? 0;
    first += 1;
  }
  let end = first;
  let bottom = above;
  while (end < heights.length && bottom < top + height + margin) {
    bottom += heights[end] ?? 0;
    end += 1;
  }
  const below = heights.slice(end).reduce((sum, row) => sum + row, 0);
  return { first, end, above, below };
}
