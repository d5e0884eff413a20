// Reads the features 01h to 0Bh of a controller (or those that are named), on the modules of lib/ alone.
//
//   node dist/examples/admin/get-features.js [ADDRESS] [FEATURE…]
//
// A feature that the controller does not have is said, and is no error. Current values; the driver has
// asked for no queues here, so that Number of Queues is what the controller starts with.

import { NvmeError } from 'unvme/errors'
import { type Controller, decodeFeature, featureInfo, featureName, getFeature } from 'unvme/nvme'
import { openAddress } from './open.ts'

const [address = 'sim:?size=64M', ...named] = process.argv.slice(2)
const features = named.length > 0 ? named.map(Number) : Array.from({ length: 11 }, (_, i) => i + 1)
const { controller, nsid } = await openAddress(address)

async function read(from: Controller, fid: number): Promise<string> {
  try {
    // Some features are a namespace's, and the others take none.
    const { value, data } = await getFeature(from, fid, featureInfo(fid).namespaceSpecific ? { nsid } : {})
    const bytes = data.length > 0 ? `, ${data.length} bytes: ${data.toString('hex', 0, 16)}` : ''
    return `0x${value.toString(16)} ${JSON.stringify(decodeFeature(fid, value))}${bytes}`
  } catch (error) {
    if (!(error instanceof NvmeError)) throw error
    return error.statusName
  }
}

try {
  for (const fid of features) {
    const id = `${fid.toString(16).padStart(2, '0')}h`
    console.log(`${id} ${featureName(fid).padEnd(32)} ${await read(controller, fid)}`)
  }
} finally {
  await controller.close()
}
