//! The mini chat in Leptos, rendered in the browser by WebAssembly.

use leptos::prelude::*;
use serde::Deserialize;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::Closure;
use web_sys::{KeyboardEvent, MessageEvent, WebSocket};

#[derive(Clone, Deserialize, PartialEq)]
struct Person {
    id: String,
    name: String,
}

#[derive(Clone, Deserialize, PartialEq)]
struct Command {
    name: String,
    hint: String,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    from: String,
    text: String,
    at: String,
    state: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event {
    People { people: Vec<Person> },
    Commands { commands: Vec<Command> },
    Messages { messages: Vec<Message> },
    Receipt { id: String, state: String },
}

/// A row never changes but for its tick, which is a signal.
#[derive(Clone)]
struct Row {
    id: String,
    from: String,
    text: String,
    at: String,
    state: RwSignal<String>,
}

impl From<Message> for Row {
    fn from(Message { id, from, text, at, state }: Message) -> Self {
        Self { id, from, text, at, state: RwSignal::new(state) }
    }
}

#[derive(Clone, Copy)]
struct State {
    online: RwSignal<bool>,
    people: RwSignal<Vec<Person>>,
    commands: RwSignal<Vec<Command>>,
    rows: RwSignal<Vec<Row>>,
    socket: StoredValue<Option<WebSocket>, LocalStorage>,
}

impl State {
    fn new() -> Self {
        Self {
            online: RwSignal::new(true),
            people: RwSignal::default(),
            commands: RwSignal::default(),
            rows: RwSignal::default(),
            socket: StoredValue::new_local(None),
        }
    }

    fn apply(self, event: Event) {
        match event {
            Event::People { people } => self.people.set(people),
            Event::Commands { commands } => self.commands.set(commands),
            Event::Messages { messages } => self.rows.update(|rows| rows.extend(messages.into_iter().map(Row::from))),
            Event::Receipt { id, state } => self.rows.with_untracked(|rows| {
                if let Some(row) = rows.iter().rev().find(|row| row.id == id) {
                    row.state.set(state);
                }
            }),
        }
    }

    /// Opens the connection, and opens it again when it ends.
    fn connect(self) {
        let address = window().location().origin().unwrap_or_default().replacen("http", "ws", 1) + "/ws";
        let Ok(socket) = WebSocket::new(&address) else { return };
        let opened = Closure::<dyn FnMut()>::new(move || self.online.set(true));
        let message = Closure::<dyn FnMut(_)>::new(move |message: MessageEvent| {
            let event = message.data().as_string().and_then(|text| serde_json::from_str(&text).ok());
            event.into_iter().for_each(|event| self.apply(event));
        });
        let closed = Closure::<dyn FnMut()>::new(move || {
            self.online.set(false);
            set_timeout(move || self.connect(), std::time::Duration::from_secs(1));
        });
        socket.set_onopen(Some(opened.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(closed.as_ref().unchecked_ref()));
        opened.forget();
        message.forget();
        closed.forget();
        self.socket.set_value(Some(socket));
    }

    fn say(self, text: &str) {
        let message = serde_json::json!({ "type": "say", "text": text }).to_string();
        self.socket.with_value(|socket| socket.as_ref().map(|socket| socket.send_with_str(&message)));
    }
}

#[component]
fn Chat() -> impl IntoView {
    let state = State::new();
    state.connect();
    window_event_listener(leptos::ev::offline, move |_| state.online.set(false));
    window_event_listener(leptos::ev::online, move |_| {
        let open = state.socket.with_value(|socket| socket.as_ref().is_some_and(|s| s.ready_state() == WebSocket::OPEN));
        state.online.set(open);
    });

    let draft = RwSignal::new(String::new());
    let chosen = RwSignal::new(0);
    let matching = Memo::new(move |_| {
        let draft = draft.get();
        let mut commands = state.commands.get();
        commands.retain(|command| draft.starts_with('/') && command.name.starts_with(&draft));
        commands
    });
    let text = NodeRef::<leptos::html::Input>::new();
    let choose = move |command: &Command| {
        draft.set(format!("{} ", command.name));
        let _ = text.get_untracked().map(|text| text.focus());
    };
    let on_key = move |event: KeyboardEvent| {
        let commands = matching.get_untracked();
        if commands.is_empty() {
            return;
        }
        match event.key().as_str() {
            "ArrowDown" => chosen.update(|at| *at = (*at + 1) % commands.len()),
            "ArrowUp" => chosen.update(|at| *at = (*at + commands.len() - 1) % commands.len()),
            "Tab" => choose(&commands[chosen.get_untracked()]),
            _ => return,
        }
        event.prevent_default();
    };
    let on_submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let said = draft.get_untracked();
        if !said.trim().is_empty() {
            state.say(&said);
            draft.set(String::new());
        }
    };

    view! {
        <p id="banner" role="status" hidden=move || state.online.get()>"Offline. What you write is sent when you are back."</p>
        <nav aria-label="People">
            <ul id="people">
                <For each=move || state.people.get() key=|person| person.id.clone() let:person><li>{person.name}</li></For>
            </ul>
        </nav>
        <main>
            <ol id="log" role="log" aria-label="Messages">
                <For each=move || state.rows.get() key=|row| row.id.clone() let:row>
                    <li data-id=row.id><b>{row.from}</b><span>{row.text}</span><time>{row.at}</time><i class="tick">{row.state}</i></li>
                </For>
            </ol>
            <form on:submit=on_submit>
                <ul id="commands" role="listbox" aria-label="Commands" hidden=move || matching.get().is_empty()>
                    {move || matching.get().into_iter().enumerate().map(|(at, command)| {
                        let label = format!("{} {}", command.name, command.hint);
                        view! {
                            <li role="option" aria-selected=move || (chosen.get() == at).to_string() on:click=move |_| choose(&command)>{label}</li>
                        }
                    }).collect_view()}
                </ul>
                <input id="text" node_ref=text role="combobox" aria-label="Message" aria-controls="commands"
                    aria-expanded=move || (!matching.get().is_empty()).to_string() autocomplete="off"
                    disabled=move || state.people.get().is_empty() prop:value=draft on:keydown=on_key
                    on:input=move |event| { draft.set(event_target_value(&event)); chosen.set(0); } />
                <button>"Send"</button>
            </form>
        </main>
    }
}

fn main() {
    mount_to_body(Chat);
}
