module danlu

go 1.26
