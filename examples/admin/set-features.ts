// Sets a feature of a controller, on the modules of lib/ alone, and reads it back: without a value of yours the
// over temperature threshold goes up by one kelvin, and back again.
//
//   node dist/examples/admin/set-features.js [ADDRESS] [FEATURE VALUE]
//
// Not saved, so that closing the controller, which resets it, brings the old value back
// (`unvme set-feature --save` keeps one).

import { decodeFeature, encodeFeature, FEATURE, featureName, getFeature, setFeature } from 'unvme/nvme'
import { openAddress } from './open.ts'

const [address = 'sim:?size=64M', feature, value] = process.argv.slice(2)
const fid = feature === undefined ? FEATURE.TEMPERATURE_THRESHOLD : Number(feature)
const { controller } = await openAddress(address)

async function set(dword: number): Promise<void> {
  await setFeature(controller, fid, dword)
  const { value: now } = await getFeature(controller, fid)
  console.log(`set to 0x${dword.toString(16)}, reads 0x${now.toString(16)}`)
}

try {
  const { value: before } = await getFeature(controller, fid)
  console.log(`${featureName(fid)}: 0x${before.toString(16)} ${JSON.stringify(decodeFeature(fid, before))}`)
  if (value !== undefined) await set(Number(value))
  else {
    const { tmpth } = decodeFeature(FEATURE.TEMPERATURE_THRESHOLD, before)
    await set(encodeFeature(FEATURE.TEMPERATURE_THRESHOLD, { tmpth: tmpth + 1 }))
    await set(before)
  }
} finally {
  await controller.close()
}
