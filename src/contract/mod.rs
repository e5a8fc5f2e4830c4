//! What a loss function promises: the laws that `assert_loss_contract!` tests.
