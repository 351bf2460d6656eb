//! Nothing but a decision makes an `Allowed`: code that tries doesn't compile.

#[test]
fn nothing_but_a_decision_makes_an_allowed() {
    trybuild::TestCases::new().compile_fail("tests/forge/*.rs");
}
