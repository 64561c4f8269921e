// Package serve answers requests over HTTP in the shape of OpenAI's API.
//
// A request is read strictly (request.go, fields.go), becomes token ids, and joins its model's scheduler (scheduler.go): one goroutine
// that owns the model's generate.Runner and extends every reply in each pass. What a reply says is split into thoughts,
// text and tool calls while it comes (reply.go) and is sent as one object or as a stream of events (chat.go,
// completions.go, stream.go).
package serve
