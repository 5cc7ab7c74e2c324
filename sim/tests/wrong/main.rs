//! Who tests the tester: everything that is wrong on purpose is caught, soon, by the rule that
//! should catch it.

mod hunt;

use hunt::everything;

#[test]
fn everything_wrong_is_caught_soon_by_a_rule_that_should() {
    std::panic::set_hook(Box::new(|_| {}));
    let bags = everything(27);
    for bag in &bags {
        println!("{:26} {:5} {:5}  {:?}  {}", bag.wrong.name(), bag.median(), bag.p95(), bag.usual().map(|r| bag.wrong.caught_by().iter().position(|x| *x==r)), bag.listing());
    }
}
