// Byte by byte as <linux/vfio.h> and <linux/iommufd.h> lay them out on x86-64.
import test from 'ava'
import * as structs from '../../lib/vfio/structs.ts'
import * as abi from '../../lib/vfio-abi/device.ts'
import { decodeRegionInfo } from '../../lib/vfio-abi/region.ts'

const hex = (b: Buffer) => b.toString('hex').replace(/(.{8})(?=.)/g, '$1 ')

test('vfio_group_status', (t) => {
  t.is(hex(structs.encodeGroupStatus()), '08000000 00000000')
  t.deepEqual(structs.decodeGroupStatus(Buffer.from('0800000003000000', 'hex')), { flags: 3 })
})

test('vfio_device_info', (t) => {
  t.is(hex(abi.encodeDeviceInfo()), '10000000 00000000 00000000 00000000')
  const info = Buffer.from('1400000003000000090000000500000000000000', 'hex')
  t.deepEqual(abi.decodeDeviceInfo(info), { flags: 3, regions: 9, irqs: 5 })
})

test('vfio_region_info', (t) => {
  const request = abi.encodeRegionRequest(7, 4096, 4096)
  t.is(request.length, 4096)
  t.is(
    hex(request.subarray(0, 32)),
    '00100000 00000000 07000000 00000000 00000000 00000000 00000000 00000000',
  )
  t.is(abi.encodeRegionRequest(0, 8192, 8192).readUInt32LE(0), 8192)
  const info = Buffer.from('000100000f0000000000000020000000' + '00400000000000000000000000070000', 'hex')
  t.deepEqual(decodeRegionInfo(info), {
    flags: 15,
    capOffset: 32,
    size: 0x4000,
    offset: 7 * 2 ** 40,
  })
})

test('vfio_irq_info', (t) => {
  t.is(hex(abi.encodeIrqInfo({ index: 2 })), '10000000 00000000 02000000 00000000')
  t.deepEqual(abi.decodeIrqInfo(Buffer.from('10000000090000000200000041000000', 'hex')), {
    flags: 9,
    index: 2,
    count: 65,
  })
})

test('vfio_irq_set: eventfds that trigger, or none', (t) => {
  t.is(
    hex(abi.encodeIrqSet({ flags: abi.irqSetFlags(2), index: 2, start: 0, count: 2 }, [17, 18])),
    '1c000000 24000000 02000000 00000000 02000000 11000000 12000000',
  )
  t.is(
    hex(abi.encodeIrqSet({ flags: abi.irqSetFlags(0), index: 4, start: 0, count: 0 })),
    '14000000 21000000 04000000 00000000 00000000',
  )
})

test('vfio_iommu_type1_info', (t) => {
  const request = structs.encodeIommuInfo()
  t.is(request.length, 4096)
  t.is(request.readUInt32LE(0), 4096)
  const info = Buffer.from('a4000000030000000010204000000000200000000000000000000000', 'hex')
  t.deepEqual(structs.decodeIommuInfo(info), { flags: 3, pageSizes: 0x40201000n, capOffset: 32 })
})

test('vfio_iommu_type1_dma_map and unmap', (t) => {
  t.is(
    hex(structs.encodeDmaMap(0x7f01_5404_f000n, 2 ** 32 + 0x20_0000, 0x80_0000)),
    '20000000 03000000 00f00454 017f0000 00002000 01000000 00008000 00000000',
  )
  t.is(
    hex(structs.encodeDmaUnmap(2 ** 32 + 0x20_0000, 0x80_0000)),
    '18000000 00000000 00002000 01000000 00008000 00000000',
  )
  t.is(structs.decodeDmaUnmap(structs.encodeDmaUnmap(0, 4096)), 4096)
})

test('vfio_device_bind_iommufd and attach_iommufd_pt', (t) => {
  t.is(hex(structs.encodeBindIommufd(21)), '10000000 00000000 15000000 00000000')
  t.is(hex(structs.encodeAttachIommufd(2)), '0c000000 00000000 02000000')
})

test('iommu_ioas_alloc', (t) => {
  t.is(hex(structs.encodeIoasAlloc()), '0c000000 00000000 00000000')
  t.is(structs.decodeIoasAlloc(Buffer.from('0c0000000000000003000000', 'hex')), 3)
})

test('iommu_ioas_iova_ranges', (t) => {
  t.is(
    hex(structs.encodeIoasRanges(3, 256, 0x7f01_5404_f000n)),
    '20000000 03000000 00010000 00000000 00f00454 017f0000 00000000 00000000',
  )
})

test('iommu_ioas_map and unmap', (t) => {
  t.is(
    hex(structs.encodeIoasMap(3, 0x7f01_5404_f000n, 2 ** 32, 0x80_0000)),
    '28000000 07000000 03000000 00000000 00f00454 017f0000 00008000 00000000 00000000 01000000',
  )
  t.is(
    hex(structs.encodeIoasUnmap(3, 2 ** 32, 0x80_0000)),
    '18000000 03000000 00000000 01000000 00008000 00000000',
  )
})
