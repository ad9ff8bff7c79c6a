// `useChat` without React: says something, comes back when it was cut off, and decides what waits for a person.
import { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { WorkflowChatTransport } from "@ai-sdk/workflow/client";
import { done, given, pause } from "./shared.mjs";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages = [...this.messages.slice(0, index), this.snapshot(message), ...this.messages.slice(index + 1)]);
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {}

const { api, chatId, texts, transport, approves } = given();
const state = new State();
let errors = 0;
const transports = {
  // A run may have ended by the time that a chat comes back.
  default: () =>
    new DefaultChatTransport({
      api,
      prepareReconnectToStreamRequest: ({ id }) => ({ api: `${api}/${id}/stream?ended=true` }),
    }),
  // Asked for a chat, not for a run, the server gives the whole message again.
  workflow: () =>
    Object.assign(
      new WorkflowChatTransport({
        api,
        maxConsecutiveErrors: 50,
        prepareSendMessagesRequest: ({ id, messages, body }) => ({ body: { id, messages, ...body } }),
      }),
      { resumeStreamIsReplay: true },
    ),
};
const chat = new Chat({
  id: chatId,
  state,
  transport: transports[transport](),
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  onError: () => (errors += 1),
});

async function settled() {
  for (;;) {
    while (chat.status === "submitted" || chat.status === "streaming") await pause(5);
    if (chat.status !== "error" || errors > 100) return;
    await chat.resumeStream();
  }
}

const waiting = () =>
  state.messages.flatMap((message) => message.parts).filter((part) => part.state === "approval-requested");

for (const text of texts) {
  await chat.sendMessage({ text });
  await settled();
  while (waiting().length) {
    const [part] = waiting();
    await chat.addToolApprovalResponse({ id: part.approval.id, approved: approves, reason: "so it is" });
    await pause(5);
    await settled();
  }
}
done({ messages: state.messages, errors, status: chat.status, error: String(state.error ?? "") });
