// Loads the command that the first word names. The modules of all of them take twice the time of Node's own start: what moves
// data loads no other; help, and everything else, has all.

import type { CommandDefinition } from '../define.ts'

const data = () => import('./data.ts')
const images = () => import('./images.ts')

/** Commands whose modules export commands and nothing else. */
const ALONE = new Map<string, () => Promise<object>>([
  ...(['read', 'write', 'copy', 'verify'] as const).map((name) => [name, data] as const),
  ...(['bmap', 'wipe'] as const).map((name) => [name, images] as const),
])

/** The command that `word` names, with those of its module; or all. */
export async function loadCommands(word: string | undefined): Promise<readonly CommandDefinition[]> {
  const load = ALONE.get(word ?? '')
  if (load !== undefined) return Object.values(await load())
  return (await import('./index.ts')).commands
}
