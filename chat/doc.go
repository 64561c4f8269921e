// Package chat turns conversations into token ids and back: prompt formats under LLaMA-Factory's names, the Jinja
// templates that models carry, loss masks for training, and parsers that split what a model says into reasoning,
// content and tool calls while it arrives.
//
// A conversation is untrusted text. Control tokens are recognised only where a format or template wrote them; where a
// message spells one, it is read as the characters that it shows. Training reads messages as LLaMA-Factory does, with
// control tokens (Format.Trusted), because a dataset is the trainer's own.
package chat
