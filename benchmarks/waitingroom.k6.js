// Load on a waiting room as a sale brings it: in open model, so that a slow answer does not slow the crowd down.
//
//   WAITINGROOM_SECRET=… understudy waitingroom --rate-per-address 0     (k6 is one address, and would be limited)
//   WAITINGROOM_SECRET=… k6 run benchmarks/waitingroom.k6.js
//   k6 run -e BASE_URL=http://gateway:8080 -e STAGES=1000:30s,5000:1m,30000:2m -e SECRET_FILE=secret benchmarks/waitingroom.k6.js
//
// It makes an event of its own, opens it, and deletes it at the end. STAGES are arrivals a second and for how long;
// by default from 1,000 to 30,000. Each arrival joins and looks where it stands; one in ten comes back to enter.
import exec from 'k6/execution';
import http from 'k6/http';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';

const BASE = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');
const SECRET = __ENV.SECRET_FILE ? open(__ENV.SECRET_FILE).split('\n')[0].trim() : __ENV.WAITINGROOM_SECRET;
const STAGES = (__ENV.STAGES || '1000:30s,3000:30s,10000:30s,20000:30s,30000:30s').split(',').map((stage) => {
  const [target, duration] = stage.split(':');
  return { target: Number(target), duration };
});
const PEAK = Math.max(...STAGES.map((stage) => stage.target));

const joins = new Trend('join_ms', true);
const statuses = new Trend('status_ms', true);
const unavailable = new Counter('answered_503');

export const options = {
  discardResponseBodies: false,
  scenarios: {
    sale: {
      executor: 'ramping-arrival-rate',
      startRate: STAGES[0].target,
      timeUnit: '1s',
      stages: STAGES,
      preAllocatedVUs: Number(__ENV.VUS || Math.ceil(PEAK / 10)),
      maxVUs: Number(__ENV.MAX_VUS || PEAK),
    },
  },
  thresholds: {
    checks: ['rate>0.99'],
    join_ms: ['p(99)<1000'],
    status_ms: ['p(99)<1000'],
    dropped_iterations: ['rate<1'],
  },
};

const json = { 'Content-Type': 'application/json' };
const admin = { headers: { ...json, Authorization: `Bearer ${SECRET}` } };

export function setup() {
  if (!SECRET) throw new Error('Set WAITINGROOM_SECRET, or -e SECRET_FILE=…, to what the gateway was started with.');
  const event = `k6-${Date.now()}`;
  const settings = { event_id: event, seats: 1000, rate_per_s: 100, max_waiting: 0 };
  const made = http.post(`${BASE}/api/v1/events`, JSON.stringify(settings), admin);
  if (made.status !== 201) throw new Error(`The event was not made: ${made.status} ${made.body}`);
  http.post(`${BASE}/api/v1/events/${event}/open`, null, admin);
  return event;
}

export default function (event) {
  const who = `k6-${exec.scenario.iterationInTest}`;
  const joined = http.post(`${BASE}/api/v1/queue/join`, JSON.stringify({ event_id: event, user_id: who }), {
    headers: { ...json, 'Idempotency-Key': `${event}-${who}` },
    tags: { name: 'join' },
  });
  joins.add(joined.timings.duration);
  if (joined.status === 429) exec.test.abort('The gateway limits this address: start it with --rate-per-address 0.');
  if (joined.status === 503) unavailable.add(1);
  if (!check(joined, { 'joined': (answer) => answer.status === 201 || answer.status === 200 })) return;

  const ticket = { Authorization: `Bearer ${joined.json('ticket')}` };
  const status = http.get(`${BASE}/api/v1/queue/status`, { headers: ticket, tags: { name: 'status' } });
  statuses.add(status.timings.duration);
  check(status, { 'has a place': (answer) => answer.status === 200 });

  if (exec.scenario.iterationInTest % 10 === 0) {
    const entered = http.post(`${BASE}/api/v1/queue/enter`, '{}', {
      headers: { ...json, ...ticket },
      tags: { name: 'enter' },
      responseCallback: http.expectedStatuses(200, 409),
    });
    check(entered, { 'entered, or not yet': (answer) => answer.status === 200 || answer.status === 409 });
  }
}

export function teardown(event) {
  http.post(`${BASE}/api/v1/events/${event}/close`, null, admin);
  http.del(`${BASE}/api/v1/events/${event}`, null, admin);
}
