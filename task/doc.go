// Package task judges answers: the rule rewards of reinforcement learning, and what they are made of (finding the
// answer in a reply, deciding whether two mathematical answers are equal, votes among replies, pass@k).
package task
