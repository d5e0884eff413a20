// Lists of namespaces as a controller may answer with them: in full, in parts, again and again, or not at all.

import test from 'ava'
import { DecodeError } from '../../lib/errors.ts'
import { createController } from '../../lib/nvme/host/controller.ts'
import { activeNamespaces } from '../../lib/nvme/host/identify-commands.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { encodeNamespaceList } from '../../lib/nvme/spec/identify.ts'
import { openSim } from '../../lib/sim/index.ts'

const ADDRESS = 'sim:?size=8M&ns=2,5'
const CNS = { NAMESPACE: 0, ACTIVE: 2 }

/** A controller whose answers to CNS 02h come from `list`; undefined: it refuses. Counts the Identify commands. */
async function controllerWith(list: (after: number) => readonly number[] | undefined) {
  const controller = await createController(await openPcieTransport(await openSim(ADDRESS)))
  const asked = { lists: 0, namespaces: 0 }
  const { admin } = controller
  controller.admin = (command, options) => {
    const cns = (command.cdw10 ?? 0) & 0xff
    if (cns === CNS.NAMESPACE) asked.namespaces++
    if (cns !== CNS.ACTIVE) return admin.call(controller, command, options)
    asked.lists++
    const nsids = list(command.nsid ?? 0)
    if (nsids === undefined) return admin.call(controller, { ...command, cdw10: 0xff }, options)
    command.data!.set(encodeNamespaceList(nsids))
    return Promise.resolve({ result: 0 })
  }
  return { controller, asked }
}

const run = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i)

test('activeNamespaces: a full list is followed by the next one', async (t) => {
  const { controller, asked } = await controllerWith((after) => run(after + 1, after < 2048 ? 1024 : 3))
  t.deepEqual(await activeNamespaces(controller), run(1, 2051))
  t.is(asked.lists, 3)
  await controller.close()
})

test('activeNamespaces: a full list that is repeated ends the asking', async (t) => {
  const { controller, asked } = await controllerWith(() => run(1, 1024))
  t.deepEqual(await activeNamespaces(controller), run(1, 1024))
  t.is(asked.lists, 2)
  await controller.close()
})

test('activeNamespaces: ids are ascending and single, whatever the list has', async (t) => {
  const { controller } = await controllerWith(() => [7, 3, 3, 0xffff_ffff, 5])
  t.deepEqual(await activeNamespaces(controller), [3, 5, 7])
  await controller.close()
})

test('activeNamespaces: lists without an end are a DecodeError, not all of the memory', async (t) => {
  const { controller } = await controllerWith((after) => run(after + 1, 1024))
  await t.throwsAsync(activeNamespaces(controller), { instanceOf: DecodeError, message: /no end after/ })
  await controller.close()
})

test('activeNamespaces: a controller that refuses the list is asked for each id', async (t) => {
  const { controller, asked } = await controllerWith(() => undefined)
  t.deepEqual(await activeNamespaces(controller), [2, 5])
  t.is(asked.namespaces, controller.identity.nn)
  await controller.close()
})

test('activeNamespaces: NVMe 1.0 is not asked for a list, which it does not know', async (t) => {
  const { controller, asked } = await controllerWith(() => [9])
  t.deepEqual(await activeNamespaces(controller), [9])
  const old = { version: '1.0.0', admin: controller.admin }
  t.deepEqual(await activeNamespaces(old), [2, 5])
  t.is(asked.lists, 1)
  await controller.close()
})
