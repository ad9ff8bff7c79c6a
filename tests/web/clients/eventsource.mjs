// Watches a run with the npm package `eventsource`, which reconnects by itself. Prints what it got.
import { EventSource } from "eventsource";
import { done, given } from "./shared.mjs";

const { url, kinds, ends } = given();
// Its own timers keep no process alive.
setInterval(() => {}, 1000);
const source = new EventSource(url);
const seen = [];
let opened = 0;
source.onopen = () => (opened += 1);
for (const kind of kinds) {
  source.addEventListener(kind, (message) => {
    seen.push({ id: message.lastEventId, type: kind, data: JSON.parse(message.data) });
    if (ends.includes(kind)) {
      source.close();
      done({ seen, opened });
    }
  });
}
