// Makes the block map of an image: of a file with holes its data, of anything else what is not zeroes.

import { BlockMapMaker, MAP_BLOCK_BYTES } from './block-map.ts'
import { prepareCopy } from './copy.ts'
import type { Chunks, CopyReport, Endpoint } from './endpoint.ts'

/**
 * Reads a source once, and returns its block map as text.
 * @throws as `copy`
 */
export async function makeBlockMap(
  source: Endpoint,
  options: { signal?: AbortSignal | undefined; onReport?: ((report: CopyReport) => void) | undefined } = {},
): Promise<string> {
  const maker = new BlockMapMaker()
  const drain = async (chunks: Chunks) => {
    let bytes = 0
    for await (const chunk of chunks) bytes += chunk.length
    return bytes
  }
  const target: Endpoint = {
    ...{ name: 'block map', ns: null, slba: 0, blocksize: MAP_BLOCK_BYTES, size: undefined },
    ...{ rereadable: false, hardware: false, file: undefined },
    read: source.read,
    write: drain,
    writer: async () => ({
      ...{ parallel: 1, align: MAP_BLOCK_BYTES, inOrder: true, pool: null },
      write: async (data, at) => maker.add(data, at),
      zero: async () => 0,
      end: async () => {},
      close: async () => {},
    }),
    close: async () => {},
  }
  // Zeroes that a sparse file stores are data, as bmaptool has them.
  const sparse = source.extents === undefined ? 'always' : 'auto'
  const planned = await prepareCopy(source, [target], { ...options, sparse, beside: false, raw: true })
  return maker.end((await planned.run()).bytes)
}
