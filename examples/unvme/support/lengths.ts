// Random lengths that fit into a whole.
// Any length up to the longest can come, but the mean is what the whole allows: the shorter the mean
// is against the longest, the rarer are long ones.

import type { Random } from './random.ts'

/** `count` lengths from 1 to `longest` whose sum is at most `total`, which is at least `count`. */
export function drawLengths(
  random: Random,
  { count, longest, total }: { count: number; longest: number; total: number },
): number[] {
  // The mean of a random number's k-th power is 1 / (k + 1).
  const power = Math.max(1, (longest * count) / total - 1)
  let left = total
  return Array.from({ length: count }, (_, i) => {
    const most = Math.min(longest, left - (count - 1 - i))
    const length = 1 + Math.floor((random.below(2 ** 32) / 2 ** 32) ** power * most)
    left -= length
    return length
  })
}
