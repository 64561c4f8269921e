module danlu/kernel/_asm

go 1.26
