// Sorted lists of ranges that never touch each other, as half-open intervals.
// Trade-off: new arrays instead of edits in place: they are short, and change rarely.

export interface BadRange {
  readonly start: number
  readonly end: number
}

/** The list with a range added, joined with what it touches. */
export function insertRange(ranges: readonly BadRange[], added: BadRange): BadRange[] {
  const before = ranges.filter((range) => range.end < added.start)
  const after = ranges.filter((range) => range.start > added.end)
  const joined = ranges.slice(before.length, ranges.length - after.length)
  const start = Math.min(added.start, ...joined.map((range) => range.start))
  const end = Math.max(added.end, ...joined.map((range) => range.end))
  return [...before, { start, end }, ...after]
}

/** The list without a range; what only overlaps it is cut. */
export function removeRange(ranges: readonly BadRange[], removed: BadRange): BadRange[] {
  return ranges.flatMap((range) =>
    [
      { start: range.start, end: Math.min(range.end, removed.start) },
      { start: Math.max(range.start, removed.end), end: range.end },
    ].filter(({ start, end }) => start < end),
  )
}
