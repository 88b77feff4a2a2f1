// Package api serves small but real versions of two HTTP APIs, for tests and demos:
//
//   - Algolia's search: POST /1/indexes/INDEX/batch (clear, addObject,
//     updateObject), GET /1/indexes/INDEX/task/ID, POST /1/indexes/INDEX/query,
//     with the headers X-Algolia-Application-Id and X-Algolia-API-Key.
//     Objects are ranked by BM25 over all their text.
//   - OpenAI's chat completions: POST /v1/chat/completions with a bearer token.
//     The "model" quotes the sentence, of the numbered passages in the last user
//     message, that fits best the question below them. The same messages always
//     give the same answer. GET /v1/models lists none, and checks the key.
//
// Access is by [Account]: an account's search key opens its own indexes alone.
// An unknown key is answered as the real APIs do: 403 by search, 401 by chat.
//
// Every request is logged with the key's [Fingerprint], never the key.
package api
