// One thread's part of a copy or a comparison: see jobs.ts.

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { type TaskContext, task } from '../threads/index.ts'
import { compareEndpoints } from './compare.ts'
import { createDeviceEndpoint, emptyDevice, fillDevice } from './device-endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import { readFile } from './file-endpoint.ts'
import { readFully, writeFully } from './file-io.ts'
import type { JobData, JobEnd, PartResult } from './jobs.ts'

await task(async (context) => {
  const { fd, kind } = context.data as JobData
  // What was checked: its path may lead to something else by now.
  const handle = await open(`/proc/self/fd/${fd}`, kind === 'empty' ? constants.O_WRONLY : constants.O_RDONLY)
  try {
    return await reported(context, work(context, handle))
  } finally {
    await handle.close()
  }
})

/** Sends how far a copy came, whether it came to its end or not. */
async function reported(context: TaskContext, working: Promise<PartResult>): Promise<PartResult> {
  if ((context.data as JobData).kind === 'compare') return working
  const end = (written: number) => {
    const message: JobEnd = { written, whole: written === lengthOf(context) }
    context.send(message)
  }
  try {
    const result = await working
    end(result as number)
    return result
  } catch (error) {
    end((error as { bytesWritten?: number }).bytesWritten ?? 0)
    throw error
  }
}

/** Bytes of this thread's part. */
function lengthOf({ ns, slba, nlb, data }: TaskContext): number {
  const { slba: first, bytes } = data as JobData
  return Math.min(nlb * ns.blocksize, bytes - (slba - first) * ns.blocksize)
}

async function work(context: TaskContext, file: FileHandle): Promise<PartResult> {
  const { ns, slba, data, signal, send } = context
  const { kind, path, name, deviceFirst, slba: first, bytes: _bytes, fd: _fd, ...how } = data as JobData
  const base = (slba - first) * ns.blocksize
  const length = lengthOf(context)
  const options = { ...how, signal }
  if (kind === 'fill') {
    const source = async (buffer: Buffer, at: number) => {
      const count = await readFully(file, buffer, base + at)
      send(count)
      return count
    }
    return fillDevice(ns, slba, source, length, options)
  }
  if (kind === 'empty') {
    const sink = async (part: Buffer, at: number) => {
      await writeFully(file, part, base + at)
      send(part.length)
    }
    const count = await emptyDevice(ns, slba, sink, length, options)
    if (how.flush ?? true) await file.datasync()
    return count
  }
  const endpoints = [createDeviceEndpoint(ns, name, slba, false), filePart(file, path, base, length)] as const
  const [a, b] = deviceFirst ? endpoints : ([endpoints[1], endpoints[0]] as const)
  let sent = 0
  const result = await compareEndpoints(a, b, length, {
    ...options,
    onProgress: (done) => {
      send(done - sent)
      sent = done
    },
  })
  const { difference } = result
  return { ...result, difference: difference && { ...difference, offset: base + difference.offset } }
}

/** A part of a file to compare. Its "first block" makes positions those in the whole file. */
function filePart(file: FileHandle, name: string, from: number, size: number): Endpoint {
  return {
    name,
    ns: null,
    slba: from,
    blocksize: 1,
    size,
    rereadable: true,
    hardware: false,
    file: undefined,
    read: (bytes, { signal }) => readFile(file, Math.min(bytes ?? size, size), signal, from),
    write: () => Promise.reject(new TypeError('a part of a comparison is not written')),
    writer: () => Promise.reject(new TypeError('a part of a comparison is not written')),
    close: async () => {},
  }
}
