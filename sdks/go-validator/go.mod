module authservice.example/validator

go 1.19
