// What every host of the software controller does alike: makes it on its resources, and delivers its interrupts.

import type { SimConfig } from '../address.ts'
import { viewSpace } from '../dma/space.ts'
import { closeResources, openMedium, openResources, type Resources } from '../function.ts'
import type { Backing } from '../model/backing.ts'
import { barBytes } from '../model/bar.ts'
import { type Controller, createController } from '../model/controller.ts'

/**
 * Memory of BAR 0: all of it, or the registers with the doorbells apart from them. And what has the namespaces, where the
 * medium does not.
 */
export interface HostParts {
  readonly barMemory?: ArrayBufferLike
  readonly doorbells?: ArrayBufferLike
  readonly backing?: Backing | undefined
}

/** A controller after power on, with the view of its address space. */
export function createHost(
  config: SimConfig,
  resources: Resources,
  { barMemory = new ArrayBuffer(barBytes(config)), doorbells, backing }: HostParts = {},
): { readonly c: Controller; readonly window: Uint8Array } {
  const window = viewSpace(resources.space)
  const { namespaceBytes, image, state } = resources
  const kept = { stateFile: image?.stateFile, state }
  const medium = openMedium(resources, window)
  const memory = { barMemory, ...(doorbells !== undefined && { doorbells }) }
  return {
    c: createController({ config, ...memory, medium, window, namespaceBytes, backing, ...kept }),
    window,
  }
}

/** Opens what a controller needs and makes it; on failure everything is given back, the image's lock too. */
export function openHost(
  config: SimConfig,
  parts?: HostParts,
): { readonly resources: Resources } & ReturnType<typeof createHost> {
  const resources = openResources(config)
  try {
    return { resources, ...createHost(config, resources, parts) }
  } catch (error) {
    closeResources(resources)
    throw error
  }
}

/** Calls `deliver` for each vector with completions that no interrupt was sent for yet. */
export function deliverInterrupts(c: Controller, deliver: (vector: number) => void): void {
  for (let vector = 0; c.raisedCount > 0 && vector < c.raised.length; vector++) {
    if (c.raised[vector] === 0) continue
    c.raised[vector] = 0
    c.raisedCount--
    deliver(vector)
  }
}
