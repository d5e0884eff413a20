// A range of LBAs cut into parts of about the same length.
// Trade-off: parts begin at multiples of `align` from the range's start, so that the last may be a little shorter.

export interface Part {
  readonly slba: number
  readonly nlb: number
}

/** Up to `count` parts, in order, none empty: fewer where the range has not as many times `align` blocks. */
export function partsOf({ slba, nlb }: Part, count: number, align = 1): Part[] {
  const units = Math.ceil(nlb / align)
  const parts = Math.min(count, units)
  return Array.from({ length: parts }, (_, i) => {
    const start = Math.floor((units * i) / parts) * align
    const end = Math.min(nlb, Math.floor((units * (i + 1)) / parts) * align)
    return { slba: slba + start, nlb: end - start }
  })
}
