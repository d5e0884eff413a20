// A result with fio's JSON keys, so that scripts that read fio's output read this as well.
// One group for all jobs; what the driver does not have (trim, sync, disk utilisation) is there with
// zeroes, since such scripts ask for it; how many I/Os went out at once (iodepth_submit, iodepth_complete) is not.

import type { Histogram } from './histogram.ts'
import { depthShares, describe, errorNumber, latencyShares } from './report-text.ts'
import type { BenchResult, DirectionSummary } from './run.ts'

/** The object that `-o json` prints. */
export function reportJson(result: BenchResult, version: string) {
  const { options, target, startedAt, elapsed, read, write, usage } = result
  const shares = latencyShares(result)
  return {
    'fio version': `unvme-${version}`,
    timestamp: Math.floor(startedAt.getTime() / 1000),
    timestamp_ms: startedAt.getTime(),
    time: startedAt.toString(),
    'global options': jobOptions(result),
    jobs: [
      {
        jobname: options.name,
        groupid: 0,
        error: errorNumber(result.failure),
        eta: 0,
        elapsed: Math.ceil(elapsed / 1000),
        'job options': jobOptions(result),
        read: direction(read, options.percentiles),
        write: direction(write, options.percentiles),
        trim: direction(undefined, options.percentiles),
        sync: { total_ios: 0, lat_ns: latency(undefined) },
        job_runtime: Math.round(Math.max(read.runtime, write.runtime)),
        usr_cpu: usage.user,
        sys_cpu: usage.system,
        ctx: usage.switches,
        majf: usage.majorFaults,
        minf: usage.minorFaults,
        iodepth_level: Object.fromEntries(depthShares(result)),
        latency_ns: Object.fromEntries(shares.ns),
        latency_us: Object.fromEntries(shares.us),
        latency_ms: Object.fromEntries(shares.ms),
        latency_depth: options.iodepth,
        latency_target: 0,
        latency_percentile: 100,
        latency_window: 0,
      },
    ],
    disk_util: [],
    // What fio has no keys for.
    target: {
      name: target.name,
      description: target.description,
      bytes: target.bytes,
      blocksize: target.blocksize,
    },
    verified: result.verified,
    unverified: result.unverified,
    stopped: result.stopped,
    ...(result.failure && { failure: describeFailure(result.failure) }),
    samples: result.samples,
  }
}

function describeFailure(failure: Error) {
  const { message } = failure
  return 'code' in failure ? { code: failure.code, message } : { message }
}

function jobOptions({ options, target }: BenchResult): Record<string, string> {
  const { name, rw, bs, iodepth, numjobs, runtime, loops, rampTime, size, offset, rwmixread, verify } =
    options
  return {
    name,
    ioengine: target.engine,
    filename: target.name,
    rw,
    bs: String(bs),
    iodepth: String(iodepth),
    numjobs: String(numjobs),
    ...(runtime !== undefined && { runtime: String(runtime / 1000) }),
    ...(runtime !== undefined && loops === Number.POSITIVE_INFINITY && { time_based: '1' }),
    ...(loops > 1 && loops < Number.POSITIVE_INFINITY && { loops: String(loops) }),
    ...(rampTime > 0 && { ramp_time: String(rampTime / 1000) }),
    ...(size !== undefined && { size: String(size) }),
    ...(offset > 0 && { offset: String(offset) }),
    ...(rw.endsWith('rw') && { rwmixread: String(rwmixread) }),
    ...(options.norandommap && { norandommap: '1' }),
    ...(verify !== 'none' && { verify }),
  }
}

function direction(summary: DirectionSummary | undefined, percents: readonly number[]) {
  const { ios = 0, bytes = 0, runtime = 0, iops = 0, bandwidth = 0, samples = [] } = summary ?? {}
  const bw = describe(samples.map((sample) => sample.bandwidth / 1024))
  const rate = describe(samples.map((sample) => sample.iops))
  return {
    io_bytes: bytes,
    io_kbytes: Math.floor(bytes / 1024),
    bw_bytes: Math.round(bandwidth),
    bw: Math.round(bandwidth / 1024),
    iops,
    runtime: Math.round(runtime),
    total_ios: ios,
    short_ios: 0,
    drop_ios: 0,
    slat_ns: latency(summary?.slat),
    clat_ns: { ...latency(summary?.clat), ...percentiles(summary?.clat, percents) },
    lat_ns: latency(summary?.lat),
    bw_min: Math.round(bw.min),
    bw_max: Math.round(bw.max),
    bw_agg: ios > 0 ? 100 : 0,
    bw_mean: bw.mean,
    bw_dev: bw.stddev,
    bw_samples: samples.length,
    iops_min: Math.round(rate.min),
    iops_max: Math.round(rate.max),
    iops_mean: rate.mean,
    iops_stddev: rate.stddev,
    iops_samples: samples.length,
  }
}

function latency(histogram: Histogram | undefined) {
  const { min = 0, max = 0, mean = 0, stddev = 0, n = 0 } = histogram ?? {}
  return { min: Math.round(min), max: Math.round(max), mean, stddev, N: n }
}

function percentiles(histogram: Histogram | undefined, percents: readonly number[]) {
  if (histogram === undefined || histogram.n === 0) return {}
  return {
    percentile: Object.fromEntries(
      percents.map((percent) => [percent.toFixed(6), Math.round(histogram.percentile(percent))]),
    ),
  }
}
