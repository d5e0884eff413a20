import test from 'ava'
import {
  ASYNC_EVENT,
  ASYNC_NOTICE,
  decodeAsyncEvent,
  encodeAsyncEvent,
} from '../../lib/nvme/spec/async-event.ts'
import { LOG_PAGE } from '../../lib/nvme/spec/logs.ts'

test('a namespace that changed', (t) => {
  const dword = 0x0004_0002
  t.deepEqual(decodeAsyncEvent(dword), {
    type: 2,
    info: 0,
    lid: 4,
    typeName: 'Notice',
    name: 'Namespace Attribute Changed',
  })
  t.is(
    encodeAsyncEvent({
      type: ASYNC_EVENT.NOTICE,
      info: ASYNC_NOTICE.NAMESPACE_ATTRIBUTE_CHANGED,
      lid: LOG_PAGE.CHANGED_NAMESPACES,
    }),
    dword,
  )
})

test('other events', (t) => {
  t.is(decodeAsyncEvent(0x0001_0100).name, 'Invalid Doorbell Write Value')
  t.is(decodeAsyncEvent(0x0002_0201).name, 'Spare Below Threshold')
  t.is(decodeAsyncEvent(0x0081_0106).name, 'Sanitize Operation Completed')
  t.is(decodeAsyncEvent(0x00c0_4207).name, 'Vendor specific (42h)')
  t.is(decodeAsyncEvent(0x0000_0905).name, 'Reserved (09h)')
  t.is(encodeAsyncEvent(decodeAsyncEvent(0x00c0_4207)), 0x00c0_4207)
})
