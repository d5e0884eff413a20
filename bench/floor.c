// The floor of bench/driver.ts in C: all that its queue pair does for a command, in functions that the compiler may put
// into one, with the controller's part in the same thread, as there. Prints nanoseconds for a command.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENTRIES 64
#define DEPTH 32
#define COMMANDS 1000000
#define PAGE 4096
#define FREE 0x80

typedef volatile uint32_t word;

// The controller: completes what the doorbell announced.
struct controller {
  word *sq, *cq, *doorbells;
  uint32_t entries, head, tail, phase;
};

static void step(struct controller *c) {
  uint32_t end = c->doorbells[2];
  while (c->head != end) {
    uint32_t cid = c->sq[c->head * 16] >> 16;
    c->head = c->head + 1 == c->entries ? 0 : c->head + 1;
    word *entry = c->cq + c->tail * 4;
    entry[0] = 0;
    entry[2] = c->head;
    entry[3] = cid | c->phase << 16;
    if (++c->tail == c->entries) {
      c->tail = 0;
      c->phase ^= 1;
    }
  }
}

static word sq[ENTRIES * 16], cq[ENTRIES * 4], doorbells[4];

// A queue pair as lib/nvme/pcie/queue-pair.ts has it, for data within a page.
struct pair {
  word *sq, *cq, *doorbells;
  uint32_t entries, sq_tail, sq_rung, cq_head, cq_rung, phase, free_count, lost, slice, unclean, status;
  uint16_t free_ids[ENTRIES];
  uint8_t slots[ENTRIES];
  uint64_t submitted, rung;
};

static uint32_t in_flight(const struct pair *q) { return q->entries - 1 - q->free_count - q->lost; }

static int post(struct pair *q, uint32_t opcode, uint32_t nsid, uint32_t lo, uint32_t hi, uint32_t bytes,
                uint32_t dw10, uint32_t dw11, uint32_t dw12, uint32_t dw13, uint32_t dw14, uint32_t dw15) {
  if (q->free_count == 0) return -1;
  uint32_t cid = q->free_ids[--q->free_count];
  q->slots[cid] = q->slice;
  word *entry = q->sq + q->sq_tail * 16;
  entry[0] = opcode | cid << 16;
  entry[1] = nsid;
  if (q->unclean || (dw13 | dw14 | dw15)) {
    entry[4] = entry[5] = entry[8] = entry[9] = 0;
    entry[13] = dw13;
    entry[14] = dw14;
    entry[15] = dw15;
    q->unclean = dw13 | dw14 | dw15 ? q->entries : q->unclean - 1;
  }
  if ((lo & (PAGE - 1)) + bytes > PAGE) abort();
  entry[6] = bytes ? lo : 0;
  entry[7] = bytes ? hi : 0;
  entry[10] = dw10;
  entry[11] = dw11;
  entry[12] = dw12;
  uint32_t tail = q->sq_tail + 1;
  q->sq_tail = tail == q->entries ? 0 : tail;
  return cid;
}

static void ring(struct pair *q) {
  if (q->sq_tail == q->sq_rung) return;
  int32_t unacknowledged = q->cq_head - q->cq_rung;
  if (unacknowledged < 0) unacknowledged += q->entries;
  if (unacknowledged + q->entries - 1 - q->free_count >= q->entries) {
    q->cq_rung = q->doorbells[3] = q->cq_head;
    q->rung++;
  }
  int32_t posted = q->sq_tail - q->sq_rung;
  if (posted < 0) posted += q->entries;
  q->submitted += posted;
  q->sq_rung = q->doorbells[2] = q->sq_tail;
  q->rung++;
}

static int reap(struct pair *q) {
  for (;;) {
    uint32_t dw3 = q->cq[q->cq_head * 4 + 3];
    if ((dw3 >> 16 & 1) != q->phase) return -1;
    uint32_t cid = dw3 & 0xffff, head = q->cq_head + 1;
    if (head == q->entries) {
      q->cq_head = 0;
      q->phase ^= 1;
    } else {
      q->cq_head = head;
    }
    if (cid >= q->entries - 1 || q->slots[cid] >= FREE) continue;
    q->status = dw3 >> 16 & 0xfffe;
    q->slots[cid] = FREE;
    q->free_ids[q->free_count++] = cid;
    return cid;
  }
}

static void run(struct controller *controller) {
  static struct pair q = {.sq = sq, .cq = cq, .doorbells = doorbells, .phase = 1};
  if (q.entries == 0) {
    q.entries = q.unclean = controller->entries;
    memset(q.slots, FREE, sizeof q.slots);
    for (q.free_count = 0; q.free_count < q.entries - 1; q.free_count++) q.free_ids[q.free_count] = q.free_count;
  }
  uint32_t sent = 0;
  for (uint32_t done = 0; done < COMMANDS;) {
    while (in_flight(&q) < DEPTH && sent < COMMANDS) post(&q, 2, 1, PAGE, 1, PAGE, sent++, 0, 0, 0, 0, 0);
    ring(&q);
    step(controller);
    while (reap(&q) >= 0) done++;
  }
}

int main(int count, char **arguments) {
  // Not a constant: as many as a caller of a library may ask for.
  uint32_t entries = count > 1 ? atoi(arguments[1]) : ENTRIES;
  struct controller controller = {sq, cq, doorbells, entries, 0, 0, 1};
  run(&controller);
  struct timespec a, b;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
  run(&controller);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
  printf("%.2f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / COMMANDS);
  return 0;
}
