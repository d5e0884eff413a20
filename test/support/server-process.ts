// A vfio-user server in a process of its own, for tests: what it serves comes as arguments (see server.ts).
// It ends with its parent, whichever way that ends, so that no test leaves a server behind.

import { type ServeOptions, serve } from '../../src/index.ts'
import { open } from '../../src/open.ts'
import type { ServedOptions } from './server.ts'

const [address = '', given = '{}'] = process.argv.slice(2)
const { namespaces, ...rest } = JSON.parse(given) as ServedOptions
const options: ServeOptions =
  namespaces === undefined ? rest : { ...rest, device: await Promise.all(namespaces.map((one) => open(one))) }
const server = await serve(address, options)
process.on('disconnect', () => {
  void server.close()
  process.exit()
})
process.send?.('serving')
