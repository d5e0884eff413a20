// A vfio-user server in a process of its own, for tests: what it serves comes as arguments (see server.ts).
// It ends with its parent, whichever way that ends, so that no test leaves a server behind.

import { type ServeOptions, serve } from '../../src/index.ts'

const [address = '', options = '{}'] = process.argv.slice(2)
const server = await serve(address, JSON.parse(options) as ServeOptions)
process.on('disconnect', () => {
  server.close()
  process.exit()
})
process.send?.('serving')
