// An AG-UI agent over HTTP, with the `fetch` of the example that goes on where it was cut off.
import { HttpAgent } from "@ag-ui/client";
import { resuming } from "../../../examples/front_ends/resuming.js";
import { done, given } from "./shared.mjs";

const { url, threadId, text, approves } = given();
let cuts = 0;

const fetch = resuming({ waitMs: 10, onCut: () => (cuts += 1) });
const agent = new HttpAgent({ url, threadId, fetch });
agent.addMessage({ id: "u1", role: "user", content: text });
const outcomes = [];
const events = [];
const subscriber = {
  onEvent: ({ event }) => void events.push(event.type),
  onRunFinishedEvent: ({ outcome }) => void outcomes.push(outcome),
};
let { result } = await agent.runAgent({ runId: `${threadId}-0` }, subscriber);
for (let turn = 1; agent.pendingInterrupts.length; turn += 1) {
  const resume = agent.pendingInterrupts.map(({ id }) => ({
    interruptId: id,
    status: "resolved",
    payload: { approved: approves, reason: "so it is" },
  }));
  ({ result } = await agent.runAgent({ runId: `${threadId}-${turn}`, resume }, subscriber));
}
done({ messages: agent.messages, outcomes, result, cuts, events });
