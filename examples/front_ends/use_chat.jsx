// A chat with AI SDK's useChat. Reload it in the middle of an answer: it goes on.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const agent = new URLSearchParams(location.search).get("agent") ?? "calculator";
const api = `/agentq/ai-sdk/${agent}`;
const chatId = (localStorage.chatId ??= crypto.randomUUID());

const transport = new DefaultChatTransport({
  api,
  // The last message whole, even if it was complete before we came back.
  prepareReconnectToStreamRequest: ({ id }) => ({ api: `${api}/${id}/stream?ended=true` }),
});

function Chat() {
  const { messages, sendMessage, addToolApprovalResponse, resumeStream, status, error } = useChat({
    id: chatId,
    messages: JSON.parse(localStorage.messages ?? "[]"),
    transport,
    resume: true,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const [text, setText] = useState("");
  useEffect(() => {
    localStorage.messages = JSON.stringify(messages);
  }, [messages]);

  const send = (event) => {
    event.preventDefault();
    sendMessage({ text });
    setText("");
  };
  const answer = (interruptId, payload) =>
    sendMessage(undefined, { body: { resume: [{ interruptId, payload }] } });

  return (
    <main data-status={status}>
      {messages.map((message) => (
        <article key={message.id} className={message.role}>
          {message.parts.map((part, index) => (
            <Part key={index} part={part} decide={addToolApprovalResponse} answer={answer} />
          ))}
        </article>
      ))}
      {error && (
        <p role="alert">
          {error.message} <button onClick={() => resumeStream()}>Go on</button>
        </p>
      )}
      <form onSubmit={send}>
        <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
        <button disabled={status !== "ready" || !text}>Send</button>
      </form>
    </main>
  );
}

function Part({ part, decide, answer }) {
  if (part.type === "text") return <p>{part.text}</p>;
  if (part.type === "reasoning") return <p className="reasoning">{part.text}</p>;
  if (part.type === "file") return <img src={part.url} alt="" />;
  if (part.type === "data-agentq-input") return <Question {...part.data} give={answer} />;
  if (!part.type.startsWith("tool-")) return null;
  return (
    <div className="call">
      <code>
        {part.type.slice("tool-".length)} {JSON.stringify(part.input)}
      </code>{" "}
      {part.state === "approval-requested" && (
        <>
          <button onClick={() => decide({ id: part.approval.id, approved: true })}>Approve</button>
          <button onClick={() => decide({ id: part.approval.id, approved: false })}>Deny</button>
        </>
      )}
      {part.state === "output-available" && <output>{String(part.output)}</output>}
      {part.state === "output-error" && <output>{part.errorText}</output>}
      {part.state === "output-denied" && <output>denied</output>}
    </div>
  );
}

function Question({ interruptId, text, schema, answer, give }) {
  if (answer) return <p className="question">{text}</p>;
  const choices = schema?.enum ?? [];
  return (
    <p className="question">
      {text}{" "}
      {choices.map((choice) => (
        <button key={choice} onClick={() => give(interruptId, choice)}>
          {choice}
        </button>
      ))}
    </p>
  );
}

createRoot(document.getElementById("chat")).render(<Chat />);
