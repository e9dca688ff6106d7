//! Compares the table that the kernel gave back with the one that was sent. Pure.
//!
//! Everything that was sent must be there, in order, and nothing more: no further chain, rule or expression. Within an
//! expression the kernel may name more than was sent (its defaults, the attributes of newer kernels), so that a kernel
//! newer than this program does not fail it.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, ListAttribute, RuleAttribute, RuleMessage,
};

use crate::ruleset::{Chain, Ruleset, TABLE};
use crate::wire::{chain_message, rule_messages};

/// How the table that the kernel holds differs from the one that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The number of chains.
    #[error("it has {found} chains, {expected} were sent")]
    ChainCount {
        /// Chains in the kernel.
        found: usize,
        /// Chains sent.
        expected: usize,
    },
    /// A chain is missing, or has another type, hook, priority or policy.
    #[error("chain {chain:?} is missing or hangs elsewhere")]
    Chain {
        /// The chain's name.
        chain: &'static str,
    },
    /// The number of rules in a chain.
    #[error("chain {chain:?} has {found} rules, {expected} were sent")]
    RuleCount {
        /// The chain's name.
        chain: &'static str,
        /// Rules in the kernel.
        found: usize,
        /// Rules sent.
        expected: usize,
    },
    /// A rule does something else.
    #[error("rule {number} of chain {chain:?} is not `{expected}`")]
    Rule {
        /// The chain's name.
        chain: &'static str,
        /// The rule's place in its chain, from 1.
        number: usize,
        /// The rule that was sent, in nft's words.
        expected: String,
    },
}

/// Finds the first difference between the ruleset and the chains (of any table) and rules that the kernel gave back.
pub(crate) fn verify(ruleset: &Ruleset, chains: &[ChainMessage], rules: &[RuleMessage]) -> Result<(), Difference> {
    let in_table = ChainAttribute::Table(TABLE.to_owned());
    let chains: Vec<_> = chains.iter().filter(|chain| chain.attributes.contains(&in_table)).collect();
    if chains.len() != ruleset.chains.len() {
        return Err(Difference::ChainCount { found: chains.len(), expected: ruleset.chains.len() });
    }
    for chain in &ruleset.chains {
        let sent = chain_message(chain.hook);
        if !chains.iter().any(|found| holds(&found.attributes, &sent.attributes)) {
            return Err(Difference::Chain { chain: chain.hook.chain_name() });
        }
        verify_rules(chain, rules)?;
    }
    Ok(())
}

fn verify_rules(chain: &Chain, rules: &[RuleMessage]) -> Result<(), Difference> {
    let name = chain.hook.chain_name();
    let in_chain = RuleAttribute::Chain(name.to_owned());
    let found: Vec<_> = rules.iter().filter(|rule| rule.attributes.contains(&in_chain)).collect();
    let sent = rule_messages(chain);
    if found.len() != sent.len() {
        return Err(Difference::RuleCount { chain: name, found: found.len(), expected: sent.len() });
    }
    for (index, (found, sent)) in found.iter().zip(&sent).enumerate() {
        if !rule_holds(found, sent) {
            let expected = chain.rules[index].to_string();
            return Err(Difference::Rule { chain: name, number: index + 1, expected });
        }
    }
    Ok(())
}

fn rule_holds(found: &RuleMessage, sent: &RuleMessage) -> bool {
    sent.attributes.iter().all(|attribute| match attribute {
        RuleAttribute::Expressions(sent) => found.attributes.iter().any(|attribute| match attribute {
            RuleAttribute::Expressions(found) => expressions_hold(found, sent),
            _ => false,
        }),
        other => found.attributes.contains(other),
    })
}

type ExpressionList = [ListAttribute<ExpressionAttribute>];

fn expressions_hold(found: &ExpressionList, sent: &ExpressionList) -> bool {
    found.len() == sent.len()
        && found.iter().zip(sent).all(|pair| match pair {
            (ListAttribute::Element(found), ListAttribute::Element(sent)) => {
                sent.iter().all(|sent| found.iter().any(|found| expression_holds(found, sent)))
            }
            (found, sent) => found == sent,
        })
}

fn expression_holds(found: &ExpressionAttribute, sent: &ExpressionAttribute) -> bool {
    use Expressions::{Bitwise, Cmp, Immediate, Meta, Other, Payload};
    let (ExpressionAttribute::Data(found), ExpressionAttribute::Data(sent)) = (found, sent) else {
        return found == sent;
    };
    match (found, sent) {
        (Bitwise(found), Bitwise(sent)) => holds(found, sent),
        (Cmp(found), Cmp(sent)) => holds(found, sent),
        (Immediate(found), Immediate(sent)) => holds(found, sent),
        (Meta(found), Meta(sent)) => holds(found, sent),
        (Payload(found), Payload(sent)) => holds(found, sent),
        (
            Other { expression_type: found_type, attributes: found },
            Other { expression_type: sent_type, attributes: sent },
        ) => found_type == sent_type && holds(found, sent),
        (found, sent) => found == sent,
    }
}

fn holds<T: PartialEq>(found: &[T], sent: &[T]) -> bool {
    sent.iter().all(|attribute| found.contains(attribute))
}

#[cfg(test)]
mod tests {
    use netlink_packet_netfilter::nftables::{Hook as HookAttribute, Meta};

    use super::*;
    use crate::Settings;

    struct Kernel {
        chains: Vec<ChainMessage>,
        rules: Vec<RuleMessage>,
    }

    fn ruleset() -> Ruleset {
        Ruleset::for_settings(&Settings::default())
    }

    /// A kernel that holds exactly what was sent, with the handles that it adds.
    fn kernel() -> Kernel {
        let ruleset = ruleset();
        let mut kernel = Kernel {
            chains: ruleset.chains.iter().map(|chain| chain_message(chain.hook)).collect(),
            rules: ruleset.chains.iter().flat_map(rule_messages).collect(),
        };
        for (handle, rule) in (1..).zip(&mut kernel.rules) {
            rule.attributes.insert(0, RuleAttribute::Handle(handle));
        }
        kernel
    }

    fn difference(kernel: &Kernel) -> Difference {
        verify(&ruleset(), &kernel.chains, &kernel.rules).unwrap_err()
    }

    fn expressions(rule: &mut RuleMessage) -> &mut Vec<ListAttribute<ExpressionAttribute>> {
        let found = rule.attributes.iter_mut().find_map(|attribute| match attribute {
            RuleAttribute::Expressions(expressions) => Some(expressions),
            _ => None,
        });
        found.unwrap()
    }

    #[test]
    fn what_was_sent_verifies_whatever_else_the_kernel_holds_and_adds() {
        let mut kernel = kernel();
        assert_eq!(verify(&ruleset(), &kernel.chains, &kernel.rules), Ok(()));

        kernel.chains.push(ChainMessage { attributes: vec![ChainAttribute::Table("another".to_owned())] });
        let ListAttribute::Element(meta) = &mut expressions(&mut kernel.rules[0])[0] else { panic!("not an element") };
        let ExpressionAttribute::Data(Expressions::Meta(meta)) = &mut meta[1] else { panic!("not meta") };
        meta.push(Meta::Unspecified);
        assert_eq!(verify(&ruleset(), &kernel.chains, &kernel.rules), Ok(()));
    }

    #[test]
    fn a_missing_or_surplus_chain_is_a_difference() {
        let mut kernel = kernel();
        kernel.chains.pop();
        assert_eq!(difference(&kernel), Difference::ChainCount { found: 1, expected: 2 });
        kernel.chains.extend(super::tests::kernel().chains);
        assert_eq!(difference(&kernel), Difference::ChainCount { found: 3, expected: 2 });
    }

    #[test]
    fn a_chain_at_another_priority_is_a_difference() {
        let mut kernel = kernel();
        for attribute in &mut kernel.chains[0].attributes {
            if let ChainAttribute::Hook(hook) = attribute {
                hook[1] = HookAttribute::Priority(0);
            }
        }
        assert_eq!(difference(&kernel), Difference::Chain { chain: "outbound" });
    }

    #[test]
    fn a_missing_rule_is_a_difference() {
        let mut kernel = kernel();
        kernel.rules.pop();
        assert_eq!(difference(&kernel), Difference::RuleCount { chain: "inbound", found: 3, expected: 4 });
    }

    #[test]
    fn rules_in_another_order_are_a_difference() {
        let mut kernel = kernel();
        kernel.rules.swap(0, 1);
        let expected = "meta skuid 2102 return".to_owned();
        assert_eq!(difference(&kernel), Difference::Rule { chain: "outbound", number: 1, expected });
    }

    #[test]
    fn a_missing_expression_is_a_difference() {
        let mut kernel = kernel();
        expressions(&mut kernel.rules[5]).pop();
        let expected = "meta l4proto tcp redirect to :4140".to_owned();
        assert_eq!(difference(&kernel), Difference::Rule { chain: "outbound", number: 6, expected });
    }

    #[test]
    fn another_value_in_an_expression_is_a_difference() {
        let settings = Settings { proxy_uid: 2103, ..Settings::default() };
        let Kernel { chains, .. } = kernel();
        let rules: Vec<_> = Ruleset::for_settings(&settings).chains.iter().flat_map(rule_messages).collect();
        let expected = "meta skuid 2102 return".to_owned();
        let found = verify(&ruleset(), &chains, &rules).unwrap_err();
        assert_eq!(found, Difference::Rule { chain: "outbound", number: 1, expected });
    }
}
