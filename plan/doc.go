// Package plan tells what a model needs before anything is run: memory by what it is for, cards and how the model is cut
// over them, speed, time, cost and energy. All of it follows from the model's graph, the card's data sheet and published
// formulas; the one fitted number is the efficiency of training (see Sustained).
package plan
